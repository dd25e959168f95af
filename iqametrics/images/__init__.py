"""The one door by which pictures enter: files, bytes, PIL images, arrays and tensors become checked RGB tensors.

    files.py      which files of a folder are pictures, in which order
    budget.py     what a picture may cost
    formats.py    which format a file is of, by its first bytes
    decode.py     file, bytes or PIL image -> array of RGB(A) or gray pixels at the file's own depth
    containers.py, jpeg.py, jpeg2000.py, jxl.py, pnm.py, tiff.py
                  headers, read before a decoder gets the file: size, depth, what is missing
    tiff_pixels.py, tiff_image.py
                  TIFF: strips and tiles -> values, values -> colours
    pillow.py     what Pillow opened -> pixels of 8 or 16 bits
    extra.py      decoders of the extra `formats`
    profile.py    embedded colour profile -> sRGB
    shaper.py     profiles of matrix and tone curve at 16 bits
    quiet.py      libraries that write to stderr by themselves
    check.py      shapes, dtypes and ranges of tensors and arrays
    sizing.py     the size at which a checkpoint looks at images
    read.py       what everything else calls: read_image, to_image_list and image_size

`docs/images.md` has one table of what happens to each kind of input.
"""

from iqametrics.images.budget import MAX_PIXELS
from iqametrics.images.check import check_pair, check_sizes, check_tensor
from iqametrics.images.files import IMAGE_SUFFIXES, UNREAD_SUFFIXES, list_images, list_unread, walk_pictures
from iqametrics.images.read import ImageSource, image_size, read_image, to_image_list
from iqametrics.images.sizing import Sizing

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "UNREAD_SUFFIXES",
    "ImageSource",
    "Sizing",
    "check_pair",
    "check_sizes",
    "check_tensor",
    "image_size",
    "list_images",
    "list_unread",
    "read_image",
    "to_image_list",
    "walk_pictures",
]
