"""The one door by which pictures enter: files, bytes, PIL images, arrays and tensors become checked RGB tensors.

    files.py      which files of a folder are pictures, in which order
    decode.py     file, bytes or PIL image -> array of RGB(A) or gray pixels at the file's own depth
    profile.py    embedded colour profile -> sRGB
    shaper.py     profiles of matrix and tone curve at 16 bits
    check.py      shapes, dtypes and ranges of tensors and arrays
    read.py       what everything else calls: read_image, to_image_list and image_size

`docs/images.md` has one table of what happens to each kind of input.
"""

from iqametrics.images.check import check_pair, check_sizes, check_tensor
from iqametrics.images.decode import MAX_PIXELS
from iqametrics.images.files import IMAGE_SUFFIXES, UNREAD_SUFFIXES, list_images, list_unread, walk_pictures
from iqametrics.images.read import ImageSource, image_size, read_image, to_image_list

__all__ = [
    "IMAGE_SUFFIXES",
    "MAX_PIXELS",
    "UNREAD_SUFFIXES",
    "ImageSource",
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
