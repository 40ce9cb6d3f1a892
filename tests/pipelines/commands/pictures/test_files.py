"""Pictures read and written back: colours with a profile that fits, EXIF, XMP and resolution, one frame alone."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image

from pipelines.commands.pictures.files import FORMATS, Picture, picture_of
from pipelines.commands.pictures.metadata import Metadata
from pipelines.errors import DecodeError
from tests.pipelines import icc

RGB = Image.fromarray(
    np.stack([*np.meshgrid(np.linspace(20, 250, 30), np.linspace(10, 240, 20)), np.full((20, 30), 90.0)], axis=-1)
    .round()
    .astype(np.uint8)
)  # smooth, so that JPEG keeps it
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6" photoshop:ICCProfile="Display P3" '
    b"exif:PixelXDimension='30'><dc:rights>me</dc:rights><tiff:Orientation>6</tiff:Orientation></rdf:Description>"
    b"</x:xmpmeta>"
)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def written(picture: Picture, suffix: str) -> Image.Image:
    image = Image.open(io.BytesIO(picture.encoded(suffix, 95)))
    image.load()
    return image


def described() -> Metadata:
    """Metadata of a picture of 30x20 pixels that lies on its side, with a preview."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation], exif[ExifTags.Base.Make], exif[ExifTags.Base.Copyright] = 6, "Maker", "(c) me"
    details = exif.get_ifd(ExifTags.IFD.Exif)
    details[ExifTags.Base.DateTimeOriginal], details[ExifTags.Base.MakerNote] = "2020:01:01 00:00:00", b"own\0notes"
    details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight] = 30, 20
    exif.get_ifd(ExifTags.IFD.GPSInfo)[1] = "N"
    return Metadata(exif.tobytes(), XMP, (300, 150))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_what_a_file_says_of_itself_is_kept_and_fits_the_upright_picture(kind: str, suffix: str) -> None:
    picture = picture_of(encoded(RGB, kind, **described().options(kind)))
    assert picture.pixels.shape == (3, 30, 20) and not picture.notes_for(suffix)
    image = written(picture, suffix)
    exif = image.getexif()
    assert (exif[ExifTags.Base.Make], exif[ExifTags.Base.Copyright]) == ("Maker", "(c) me")
    assert exif.get(ExifTags.Base.Orientation, 1) == 1
    details = exif.get_ifd(ExifTags.IFD.Exif)
    assert (details[ExifTags.Base.ExifImageWidth], details[ExifTags.Base.ExifImageHeight]) == (20, 30)
    assert (details[ExifTags.Base.MakerNote], details[ExifTags.Base.DateTimeOriginal][:4]) == (b"own\0notes", "2020")
    assert exif.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
    xmp = image.info["xmp"]
    assert b"<dc:rights>me</dc:rights>" in xmp and b'Orientation="6"' not in xmp and b">6<" not in xmp
    if kind != "WEBP" and suffix != ".webp":  # WebP has no resolution of its own
        assert image.info["dpi"] == pytest.approx((150, 300), rel=1e-3)
    again = picture_of(picture.encoded(suffix, 95))
    assert again.pixels.shape == picture.pixels.shape and (suffix not in (".png", ".tif") or _same(again, picture))


def _same(one: Picture, other: Picture) -> bool:
    return bool((one.pixels == other.pixels).all())


def test_a_preview_in_exif_is_left_out() -> None:
    preview = encoded(RGB.resize((8, 8)), "JPEG")
    # One entry (Make) and then, as the next folder, the preview's place and length.
    first = b"\x01\x00" + b"\x0f\x01\x02\x00\x04\x00\x00\x00Me!\x00" + b"\x1a\x00\x00\x00"
    second = b"\x02\x00" + b"\x01\x02\x04\x00\x01\x00\x00\x00" + (56).to_bytes(4, "little")
    second += b"\x02\x02\x04\x00\x01\x00\x00\x00" + len(preview).to_bytes(4, "little") + b"\0\0\0\0"
    exif = b"Exif\0\0II*\0\x08\0\0\0" + first + second + preview
    data = encoded(RGB, "JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as before:
        assert before.getexif().get_ifd(ExifTags.IFD.IFD1)
    image = written(picture_of(data), ".jpg")
    assert image.getexif()[ExifTags.Base.Make] == "Me!" and not image.getexif().get_ifd(ExifTags.IFD.IFD1)


def test_a_resolution_alone_is_kept_in_webp_too() -> None:
    exif = written(picture_of(encoded(RGB, dpi=(300, 300))), ".webp").getexif()
    assert float(exif[ExifTags.Base.XResolution]) == pytest.approx(300, abs=0.01)


def test_a_note_names_what_a_format_cannot_hold() -> None:
    picture = picture_of(encoded(RGB, "PNG", **described().options("PNG")))
    assert picture.notes_for(".bmp") == ["EXIF and XMP left out: a BMP file holds none"]
    long = picture_of(encoded(RGB, "PNG", **Metadata(xmp=b"<x>" + b" " * 70_000).options("PNG")))
    assert long.notes_for(".jpg") == ["XMP left out: too long for a JPEG file"] and written(long, ".jpg").size == (
        30,
        20,
    )
    assert not long.notes_for(".png")


def test_damaged_exif_costs_itself_alone() -> None:
    picture = picture_of(encoded(RGB, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\xff\xff"))
    assert picture.pixels.shape == (3, 20, 30) and written(picture, ".jpg").size == (30, 20)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    ("mode", "profile", "note"),
    [
        ("RGB", icc.wide_rgb(), "converted from its profile"),
        ("CMYK", icc.cmyk(), "converted from its profile"),
        ("L", icc.grey(), "converted from its profile"),
        ("CMYK", icc.without_curves(b"CMYK", b"prtr"), "cannot be used"),
        ("L", icc.without_curves(b"GRAY"), "cannot be used"),
    ],
)
def test_a_profile_of_other_colours_is_never_carried_along(mode: str, profile: bytes, note: str, suffix: str) -> None:
    data = encoded(RGB.convert(mode), "JPEG", quality=95, icc_profile=profile)
    picture = picture_of(data)
    assert note in picture.notes_for(suffix)[0]
    image = written(picture.with_pixels(255 - picture.pixels), suffix)
    assert image.mode == ("L" if mode == "L" and suffix != ".webp" else "RGB")
    assert image.info.get("icc_profile") != profile
    again = picture_of(picture.encoded(suffix, 100))
    assert not again.notes and (picture.pixels.float() - again.pixels.float()).abs().mean() < 4


def test_grey_becomes_colour_where_the_mark_has_colour() -> None:
    picture = picture_of(encoded(RGB.convert("L"), icc_profile=icc.grey()))
    pixels = picture.pixels.clone()
    pixels[0, 3, 4] ^= 1
    image = written(picture.with_pixels(pixels), ".png")
    assert image.mode == "RGB" and (np.asarray(image).transpose(2, 0, 1) == pixels.numpy()).all()
    assert Image.open(io.BytesIO(picture.encoded(".png", 95))).mode == "L"


@pytest.mark.parametrize("orientation", [1, 6])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_kept_also_where_the_picture_is_turned(mode: str, orientation: int) -> None:
    layer = RGB.convert("RGBA")
    layer.putalpha(Image.fromarray(np.where(np.arange(600).reshape(20, 30) < 90, 0, 255).astype(np.uint8)))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    picture = picture_of(encoded(layer.quantize(64) if mode == "P" else layer.convert(mode), exif=exif))
    assert picture.alpha is not None and 90 <= int((picture.alpha == 0).sum()) < 100  # quantising may take some more
    image = written(picture, ".png")
    assert image.mode == ("LA" if mode == "LA" else "RGBA") and image.size == (
        (30, 20) if orientation == 1 else (20, 30)
    )
    alpha = np.asarray(image.getchannel("A"))
    assert (alpha == picture.alpha.numpy()).all() and (picture.pixels[:, picture.alpha == 0] == 255).all()


@pytest.mark.parametrize("mode", ["1", "L", "P", "I;16"])
def test_modes_of_few_or_many_bits_are_read_as_what_they_show(mode: str) -> None:
    grey = RGB.convert("L")
    image = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257) if mode == "I;16" else grey.convert(mode)
    picture = picture_of(encoded(image))
    expected = grey if mode == "I;16" else image.convert("L")
    assert (picture.pixels[0].numpy() == np.asarray(expected)).all()
    assert list(picture.notes) == (["16 bits per channel are written with 8"] if mode == "I;16" else [])
    assert written(picture, ".png").mode == ("RGB" if mode == "P" else "L")


def test_a_note_names_sixteen_bits_of_colour() -> None:
    import struct
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    rows = b"".join(b"\0" + bytes(2 * 3 * 4) for _ in range(4))
    head = struct.pack(">IIBBBBB", 4, 4, 16, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    assert picture_of(data).notes == ("16 bits per channel are written with 8",)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_several_frames_or_pages_are_refused(kind: str) -> None:
    frames = [RGB, RGB.transpose(Image.Transpose.ROTATE_180), RGB.convert("L").convert("RGB")]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(DecodeError, match="it has 3 frames or pages, of which only one could be marked"):
        picture_of(data)
