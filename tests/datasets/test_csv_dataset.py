"""CSV datasets as people save them, and each mistake in them."""

import pytest

from iqametrics.datasets.csv_dataset import read_csv_dataset, read_csv_opinions
from iqametrics.datasets.sample import Sample
from iqametrics.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("a.png", "b.png", "c, d.png", "ref.png"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def write(folder, text, name="set.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_reads_the_two_required_columns(folder):
    path = write(folder, "image,mos\na.png,0.25\nb.png,1\n")
    assert read_csv_dataset(path) == [
        Sample(folder / "a.png", None, 0.25),
        Sample(folder / "b.png", None, 1.0),
    ]


def test_reads_all_columns_in_any_order_and_ignores_others(folder):
    path = write(
        folder,
        "level,note,mos,kind,image,group,distortion,reference,split\n3,x,0.5,10,a.png,g7,jpeg,ref.png,train\n,,0,,b.png,,,,\n",
    )
    first, second = read_csv_dataset(path)
    assert first == Sample(folder / "a.png", folder / "ref.png", 0.5, "jpeg", 3, "g7", 10, "train")
    assert second == Sample(folder / "b.png", None, 0.0, None, None, None, None, None)


@pytest.mark.parametrize(
    "text",
    [
        b"\xef\xbb\xbfimage,mos\na.png,0.5\n",
        b"image,mos\r\na.png,0.5\r\n",
        b"image,mos\na.png,0.5",
        b"image, mos\n a.png , 0.5 \n",
        b"image,mos\n\na.png,0.5\n,\n\n",
        b"image,mos,,\na.png,0.5,,\n",
        b'"image","mos"\n"a.png","5e-1"\n',
    ],
    ids=["bom", "crlf", "no newline at the end", "spaces", "empty lines", "empty trailing columns", "quoted"],
)
def test_forms_in_which_spreadsheets_save(folder, text):
    assert read_csv_dataset(write(folder, text)) == [Sample(folder / "a.png", None, 0.5)]


def test_quoted_comma(folder):
    assert read_csv_dataset(write(folder, 'image,mos\n"c, d.png",0.5\n'))[0].image == folder / "c, d.png"


def test_root(folder, tmp_path_factory):
    path = write(tmp_path_factory.mktemp("elsewhere"), "image,mos\na.png,0.5\n")
    assert read_csv_dataset(path, folder)[0].image == folder / "a.png"
    assert read_csv_dataset(str(path), str(folder))[0].image == folder / "a.png"
    with pytest.raises(DataError, match="another root"):
        read_csv_dataset(path)


@pytest.mark.parametrize(("scale", "wanted"), [((1, 5), 0.5), ((0, 6), 0.5), ((5, 1), 0.5), ((4, 0), 0.25)])
def test_range(folder, scale, wanted):
    assert read_csv_dataset(write(folder, "image,mos\na.png,3\n"), mos_range=scale)[0].mos == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image,score\na.png,1\n", ["line 1", "mos", "score"]),
        ("mos\n1\n", ["line 1", "image"]),
        ("", ["line 1", "image or mos"]),
        ("image,mos\n", ["no rows"]),
        ("image,mos,mos\na.png,1,1\n", ["line 1", "twice"]),
        ("image,mos\na.png,1\nb.png,good\n", ["line 3", "'good'", "not a number"]),
        ("image,mos\na.png,\n", ["line 2", "not a number"]),
        ("image,mos\na.png,nan\n", ["line 2", "nan"]),
        ("image,mos\na.png,inf\n", ["line 2", "inf"]),
        ("image,mos\na.png,3.5\n", ["line 2", "3.5", "[0, 1]", "mos_range=(1, 5)"]),
        ("image,mos\na.png,-0.1\n", ["line 2", "-0.1", "mos_range"]),
        ("image,mos\n,1\n", ["line 2", "empty"]),
        ("image,mos\na.png\n", ["line 2", "1 cells", "2"]),
        ("image,mos\na.png,1\n\na.png,0\n", ["line 4", "a.png", "line 2"]),
        ("image,mos,level\na.png,1,2.5\n", ["line 2", "level", "2.5"]),
        ("image,mos,kind\na.png,1,jpeg\n", ["line 2", "kind", "jpeg"]),
        ('image,mos\n"a.png,1\n', ["line 2", "quotes"]),
    ],
)
def test_mistakes_are_named_with_their_line(folder, text, words):
    with pytest.raises(DataError) as caught:
        read_csv_dataset(write(folder, text))
    message = str(caught.value)
    assert "\n" not in message
    for word in ["set.csv", *words]:
        assert word in message


def test_missing_files_are_counted_and_a_few_named(folder):
    rows = "".join(f"gone{i}.png,0.5,ref.png\n" for i in range(7))
    with pytest.raises(DataError) as caught:
        read_csv_dataset(write(folder, "image,mos,reference\na.png,1,ref.png\n" + rows))
    message = str(caught.value)
    assert "7 of 9 files" in message
    assert "gone0.png" in message
    assert "gone2.png" in message
    assert "gone3.png" not in message
    with pytest.raises(DataError, match=r"1 of 2 files.*noref\.png"):
        read_csv_dataset(write(folder, "image,mos,reference\na.png,1,noref.png\n"))


def test_same_image_against_two_references_is_no_duplicate(folder):
    text = "image,mos,reference\na.png,1,ref.png\na.png,0.5,b.png\n"
    assert len(read_csv_dataset(write(folder, text))) == 2


def test_unreadable_files(folder):
    with pytest.raises(DataError, match="cannot be read"):
        read_csv_dataset(folder / "absent.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_csv_dataset(folder)
    with pytest.raises(DataError, match="UTF-8"):
        read_csv_dataset(write(folder, "image,mos\nü.png,1\n".encode("latin-1")))


@pytest.mark.parametrize("scale", [(1, 1), (0, float("nan")), (float("inf"), 0)])
def test_impossible_range(folder, scale):
    with pytest.raises(DataError, match="mos_range"):
        read_csv_dataset(write(folder, "image,mos\na.png,1\n"), mos_range=scale)


def test_spread_is_brought_to_the_scale_of_the_scores(folder):
    path = write(folder, "image,mos,mos_std\na.png,3,0.8\nb.png,4,\n")
    assert [sample.mos_std for sample in read_csv_dataset(path, mos_range=(1, 5))] == [0.2, None]
    assert [sample.mos_std for sample in read_csv_dataset(path, mos_range=(5, 1))] == [0.2, None]
    with pytest.raises(DataError, match=r"line 2: mos_std -1 is below 0"):
        read_csv_dataset(write(folder, "image,mos,mos_std\na.png,3,-1\n"), mos_range=(1, 5))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image;mos\na.png;0,5\n", "line 1: the columns are separated by semicolons"),
        ("image\tmos\na.png\t0.5\n", "line 1: the columns are separated by tabs"),
        ("name|image|mos\nx|a.png|0.5\n", "line 1: the columns are separated by bars"),
        ("sep=;\nimage;mos\na.png;0,5\n", "no column image or mos"),
        ("image,mos\na.png,0,5\n", r"line 2: 3 cells where the header has 2 \('0', '5'\); a number takes a point"),
        (
            'image,mos\na.png,"0,5"\n',
            "line 2: mos '0,5' is not a number; write a plain number such as 3.5",
        ),
        ("image,mos\nc, d.png,0.5\n", "a name that holds one stands in quotes"),
        ("image,mos\nx\\\\a.png,0.5\n", r"x\\\\a\.png is written with backslashes, .*; write x//a\.png"),
        (
            "image,mos,reference\na.png,1,sub\\ref.png\n",
            r"sub\\ref\.png is written with backslashes.*; write sub/ref",
        ),
    ],
)
def test_what_another_country_or_system_writes(folder, text, words):
    for read in (read_csv_dataset, read_csv_opinions):
        with pytest.raises(DataError, match=words) as caught:
            read(write(folder, text))
        assert "\n" not in str(caught.value)


def test_names_keep_their_line_ends(folder):
    for name in ("x\r.png", "y\r\nz.png"):
        (folder / name).write_bytes(b"")
    samples = read_csv_dataset(write(folder, 'image,mos\r\n"x\r.png",0.5\r\n"y\r\nz.png",1\r\n'))
    assert [sample.image.name for sample in samples] == ["x\r.png", "y\r\nz.png"]
