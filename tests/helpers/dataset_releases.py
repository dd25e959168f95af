"""Small releases of the ten datasets: the original file formats and names, a few of the real scores, tiny pictures."""

import csv

import numpy as np
import openpyxl
import scipy.io
from PIL import Image

# Folder, images, copies of references among them: 203 in all.
LIVE_FOLDERS = (("jp2k", 227, 58), ("jpeg", 233, 58), ("wn", 174, 29), ("gblur", 174, 29), ("fastfading", 174, 29))
LIVE_REFERENCES = [f"picture{index}.bmp" for index in range(29)]
# The first nine of the release; two of them are copies of references.
LIVE_DMOS = [0.0, 28.00384536, 34.01073628, 65.13140971, 68.9113403, 65.15010253, 54.39726604, 44.3971449, 0.0]
LIVE_REALIGNED = [0.0, 15.51295442, 24.09025498, 68.99086165, 74.39794796, 69.22921417, 53.57873192, 39.37667557, 0.0]
LIVE_STD = [0.0, 1.62945566, 1.73847173, 2.62021451, 2.12802461, 2.42343753, 2.28716134, 2.97273762, 0.0]
CSIQ_BLUR = [0.042668, 0.142435, 0.341114, 0.471038, 0.749795]
CSIQ_NOISE = [0.061989, 0.206245, 0.262122, 0.374632]
TID_ROWS = ["5.51429 I01_01_1.bmp", "5.18919 i01_08_1.bmp", "4.47222 i01_08_2.bmp", "3.48649 i01_08_3.BMP"]
KADID_ROWS = ["I01_01_01.png,I01.png,4.57,0.496", "I01_01_05.png,I01.png,1.1,0.3", "I02_16_03.png,I02.png,3.94,0.504"]
KONIQ_ROWS = [
    # name, mean of 1..5, SD, z-score, set
    ("10004473376.jpg", 3.82857142857143, 0.527277894493955, 77.3836206896552, "training"),
    ("10007357496.jpg", 3.47916666666667, 0.5800030247955, 68.7285714285714, "test"),
    ("10043785683.jpg", 3.56603773584906, 0.497974333332, 71.2043269231, "validation"),
]
SPAQ_ROWS = [("00001.jpg", 48.86), ("00002.jpg", 62.5), ("00003.jpg", 77.25)]
CLIVE_MOS = [63.96340617, 25.33530641, 48.93656326, 35.88633194, 66.50923667, 54.57970003, 77.88214784, 32.56107532]
CLIVE_MOS += [66.35954917, 44.69498452]


def picture(path, size=(6, 4), seed=0):
    """Write a tiny picture in the format of its suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def cells(names):
    """A MATLAB cell array of texts, as scipy reads and writes it."""
    array = np.empty((1, len(names)), dtype=object)
    for index, name in enumerate(names):
        array[0, index] = name
    return array


def workbook(path, rows, sheet="Sheet1"):
    book = openpyxl.Workbook()
    book.active.title = sheet
    for row in rows:
        book.active.append(row)
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def text(path, *lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())


def live(root, pictures=True):
    count = sum(number for _, number, _ in LIVE_FOLDERS)
    copies = np.zeros((1, count), dtype=np.uint8)
    end = 0
    for folder, number, copied in LIVE_FOLDERS:
        end += number
        copies[0, end - copied + 2 * (folder == "jp2k") : end] = 1
    copies[0, [0, 8]] = 1  # as in the release
    realigned, original, std = np.full((3, 1, count), 50.0)
    realigned[0, :9], original[0, :9], std[0, :9] = LIVE_REALIGNED, LIVE_DMOS, LIVE_STD
    root.mkdir(parents=True, exist_ok=True)
    scipy.io.savemat(root / "dmos_realigned.mat", {"dmos_new": realigned, "dmos_std": std, "orgs": copies})
    scipy.io.savemat(root / "dmos.mat", {"dmos": original, "orgs": copies})
    names = [LIVE_REFERENCES[index % 29] for index in range(count)]
    scipy.io.savemat(root / "refnames_all.mat", {"refnames_all": cells(names)})
    if pictures:
        picture(root / "refimgs" / LIVE_REFERENCES[0])
        content = (root / "refimgs" / LIVE_REFERENCES[0]).read_bytes()
        for name in LIVE_REFERENCES:
            (root / "refimgs" / name).write_bytes(content)
        for folder, number, _ in LIVE_FOLDERS:
            (root / folder).mkdir()
            for index in range(1, number + 1):
                (root / folder / f"img{index}.bmp").write_bytes(content)


def csiq(root):
    """The release: a workbook, and folders in another case than the file names'."""
    head = [None, None, None, "image", "dst_idx", "dst_type", "dst_lev", "dmos_std", "dmos"]
    rows = [[None], [None], [None], head]
    rows += [[None] * 3 + [1600, 1, "noise", n, 0.0612, dmos] for n, dmos in enumerate(CSIQ_NOISE, 1)]
    rows += [[None] * 3 + ["elk", 2, "jpeg 2000", 1, 0.05, 0.2]]
    rows += [[None] * 3 + [1600, 5, "blur", n, 0.05, dmos] for n, dmos in enumerate(CSIQ_BLUR, 1)]
    workbook(root / "csiq.DMOS.xlsx", rows, "all_by_image")
    for level in range(1, 5):
        picture(root / "dst_imgs" / "AWGN" / f"1600.AWGN.{level}.png")
    for level in range(1, 6):
        picture(root / "dst_imgs" / "Blur" / f"1600.BLUR.{level}.png")
    picture(root / "dst_imgs" / "jpeg2000" / "elk.jpeg2000.1.png")
    picture(root / "src_imgs" / "1600.png")
    picture(root / "src_imgs" / "elk.png")


def csiq_rearranged(root):
    lines = [f"1600.BLUR.{level}.png {dmos}" for level, dmos in enumerate(CSIQ_BLUR, 1)]
    text(root / "csiq_label.txt", *lines, "elk.jpeg2000.1.png 0.2")
    for line in lines:
        picture(root / "dst_imgs_all" / line.split()[0])
    picture(root / "dst_imgs_all" / "elk.jpeg2000.1.png")
    picture(root / "src_imgs" / "1600.png")
    picture(root / "src_imgs" / "elk.png")


def tid2013(root):
    text(root / "mos_with_names.txt", *TID_ROWS, end="\r\n")
    text(root / "mos_std.txt", "0.13013", "0.16008", "0.15186", "0.1", end="\r\n")
    # The case of the files is that of another copy than the score file's.
    for name in ("i01_01_1.bmp", "I01_08_1.BMP", "i01_08_2.bmp", "i01_08_3.bmp"):
        picture(root / "distorted_images" / name)
    picture(root / "reference_images" / "I01.BMP")


def kadid10k(root, distorted="images", pristine="images"):
    text(root / "dmos.csv", "dist_img,ref_img,dmos,var", *KADID_ROWS)
    for row in KADID_ROWS:
        picture(root / distorted / row.split(",")[0])
        picture(root / pristine / row.split(",")[1])


def clive(root):
    names = [f"t{index}.bmp" for index in range(1, 8)] + ["100.bmp", "101.bmp", "102.JPG"]
    scipy_names = cells(names).reshape(-1, 1)
    std = np.array([[np.nan] * 7 + [19.12472638, 20.21978588, 19.66116163]])
    (root / "Data").mkdir(parents=True)
    scipy.io.savemat(root / "Data" / "AllImages_release.mat", {"AllImages_release": scipy_names})
    scipy.io.savemat(root / "Data" / "AllMOS_release.mat", {"AllMOS_release": np.array([CLIVE_MOS])})
    scipy.io.savemat(root / "Data" / "AllStdDev_release.mat", {"AllStdDev_release": std})
    for name in names:
        picture(root / "Images" / ("trainingImages" if name.startswith("t") else "") / name)


def koniq10k(root, sets=True, folder="1024x768"):
    head = ["image_name", *[f"c{index}" for index in range(1, 6)], "c_total", "MOS", "SD"]
    name = "koniq10k_distributions_sets.csv" if sets else "koniq10k_scores_and_distributions.csv"
    root.mkdir(parents=True, exist_ok=True)
    with (root / name).open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow([*head, "set"] if sets else [*head, "MOS_zscore"])
        for image, mean, sd, zscore, part in KONIQ_ROWS:
            writer.writerow([image, *[0] * 5, 100, *([zscore, sd, part] if sets else [mean, sd, zscore])])
    for image, *_ in KONIQ_ROWS:
        picture(root / folder / image)


def spaq(root):
    head = ["Image name", "MOS", "Brightness", "Colorfulness", "Contrast", "Noisiness", "Sharpness"]
    path = root / "Annotations" / "MOS and Image attribute scores.xlsx"
    workbook(path, [head, *[[name, mos, 1, 2, 3, 4, 5] for name, mos in SPAQ_ROWS]])
    for name, _ in SPAQ_ROWS:
        picture(root / "TestImage" / name)


def flive(root, training=True):
    names = ["blur_dataset/motion0044.jpg", "voc_emotic_ava/EMOTIC__a.jpg", "EE371R/rq85.JPG", "voc_emotic_ava/b,c.jpg"]
    scores = [75.44372347614072, 59.648718683045665, 59.92469846969346, 0.0]
    quoted = [f'"{name}"' if "," in name else name for name in names]
    text(root / "labels_image.csv", "name,mos", *[f"{n},{s}" for n, s in zip(quoted, scores, strict=True)], end="\r\n")
    text(root / "labels640.csv", "mos_image,name_image", "59.64871868,voc_emotic_ava/EMOTIC__a.jpg", end="\r\n")
    if training:
        lines = [f"{quoted[0]},75.4,False", f"{quoted[3]},0,True"]
        text(root / "labels=640_padded.csv", "name_image,mos_image,is_valid", *lines)
    for name in names:
        picture(root / "database" / name)


def biq2021(root):
    # The two empty columns and the name in another case than its file's are those of the release.
    text(root / "Train (Images and MOS).csv", "Image Name,MOS,,", "ss01 (1).jpg,0.8114,,", "SS02 (7).jpg,0.5124,,")
    text(root / "Test (Images and MOS).csv", "Image Name,MOS", "ss03 (2).jpg,0.25")
    for name in ("ss01 (1).jpg", "ss02 (7).jpg", "ss03 (2).jpg"):
        picture(root / "Images" / name)


def bid(root, folder="ImageDatabase"):
    rows = [["Image", "Average", "Observer 1"], [1, 2.355, 2.1], [3, 4.0305, 4.4], [4, 0.0, None]]
    workbook(root / "DatabaseGrades.xlsx", rows, sheet="Plan1")
    for number in (1, 3, 4):
        picture(root / folder / f"DatabaseImage{number:04d}.JPG")


BUILDERS = {
    builder.__name__: builder for builder in (live, csiq, tid2013, kadid10k, clive, koniq10k, spaq, flive, biq2021, bid)
}
