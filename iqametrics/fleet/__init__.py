"""More pictures than one process gets through: Ray Data over folders, lists, tar shards and parquet; extra `fleet`.

places.py    where the bytes of a picture are, and how they are read
sources.py   what is to be scored: names, tar shards, parquet files
tars.py      which pictures a tar shard holds, and where in it
tables.py    columns of a parquet file
units.py     a few dozen pictures that are scored together, and known again by their digest
worker.py    scores a unit
parts.py     finished rows on the disk, and the file that is made of them
run.py       Ray: workers with one model each; what they finished, until all is done
"""
