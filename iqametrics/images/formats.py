"""Which format a file is of, by its first bytes."""

_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1"}
_AVIF_BRANDS = {b"avif", b"avis"}

_STARTS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II\x2a\x00", "TIFF"),
    (b"MM\x00\x2a", "TIFF"),
    (b"II\x2b\x00", "TIFF"),
    (b"MM\x00\x2b", "TIFF"),
    (b"\xff\x4f\xff\x51", "JPEG2000"),
    (b"\x00\x00\x00\x0cjP  \r\n\x87\n", "JPEG2000"),
    (b"\xff\x0a", "JXL"),
    (b"\x00\x00\x00\x0cJXL \r\n\x87\n", "JXL"),
    (b"BM", "BMP"),
)

NAMED = (
    (b"%PDF", "a PDF"),
    (b"%!PS", "PostScript"),
    (b"8BPS", "a Photoshop file (PSD)"),
    (b"\x76\x2f\x31\x01", "OpenEXR"),
    (b"#?RADIANCE", "Radiance HDR"),
    (b"qoif", "QOI"),
    (b"<svg", "SVG"),
    (b"DDS ", "DDS"),
    (b"P7", "PAM"),
    (b"II\xbc", "JPEG XR"),
    (b"FUJIFILM", "a raw file of a camera"),
)
"""Formats that are not read, by what they begin with: named in the message."""


def format_of(prefix: bytes) -> str:
    """Name the format of a file that begins with these 32 bytes or more; empty where it is none of ours."""
    for start, name in _STARTS:
        if prefix.startswith(start):
            return name
    if prefix[:4] == b"RIFF" and prefix[8:12] == b"WEBP":
        return "WEBP"
    if prefix[:1] == b"P" and prefix[1:2] in (b"1", b"2", b"3", b"4", b"5", b"6", b"f", b"F"):
        return "PNM" if prefix[2:3].isspace() or prefix[2:3] == b"#" else ""
    if prefix[4:8] == b"ftyp":
        brands = {prefix[8:12], *(prefix[at : at + 4] for at in range(16, 32, 4))}
        if prefix[8:12] in _AVIF_BRANDS or (brands & _AVIF_BRANDS and prefix[8:12] in (b"mif1", b"msf1")):
            return "AVIF"
        if brands & _HEIF_BRANDS:
            return "HEIF"
    return ""
