"""Odd and damaged images: decoded as a person sees them, or refused whole."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin
from timm.data.transforms_factory import create_transform
from torch import Tensor

from pipelines.data import decode as decoding
from pipelines.data.decode import DecodeError, decode, decode_counted

MANY = 10**7


def whole(image: Image.Image) -> Tensor:
    """The pixels as they are: uint8 (3,H,W)."""
    assert image.mode == "RGB"
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def pixels(data: bytes, max_pixels: int = MANY) -> np.ndarray:
    return decode(data, whole, max_pixels=max_pixels).transpose(1, 2, 0)


def encoded(image: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, format=format, **options)
    return out.getvalue()


def photo(width: int = 60, height: int = 44, seed: int = 0) -> Image.Image:
    """Smooth colours with some noise: what a camera gives, in small."""
    generator = np.random.default_rng(seed)
    coarse = Image.fromarray(generator.integers(0, 256, (5, 7, 3), dtype=np.uint8)).resize((width, height))
    noise = generator.integers(-9, 10, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse, int) + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("format", ["PNG", "JPEG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("size", [(500, 333), (224, 224), (90, 200)], ids=str)
def test_rgb_gives_the_pixels_of_timms_own_pipeline(format: str, size: tuple[int, int]) -> None:
    data = encoded(photo(*size), format)
    transform: Any = create_transform((3, 224, 224), interpolation="bicubic", crop_pct=0.9, normalize=False)
    expected = transform(Image.open(io.BytesIO(data)).convert("RGB"))
    found = decode(data, transform, max_pixels=MANY)
    assert found.dtype == np.uint8 and found.shape == (3, 224, 224)
    np.testing.assert_array_equal(found, expected.numpy())


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_modes_without_transparency_are_pillows_rgb(mode: str) -> None:
    image = photo().convert(mode)
    format = "TIFF" if mode in ("CMYK", "YCbCr") else "PNG"
    np.testing.assert_array_equal(pixels(encoded(image, format)), np.asarray(image.convert("RGB")))


def test_cmyk_jpeg_keeps_its_colours() -> None:
    data = encoded(Image.new("RGB", (16, 16), (200, 30, 30)).convert("CMYK"), "JPEG", quality=95)
    assert Image.open(io.BytesIO(data)).mode == "CMYK"
    np.testing.assert_allclose(pixels(data)[8, 8], (200, 30, 30), atol=6)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_16_bit_grey_is_scaled_not_clipped(format: str) -> None:
    values = np.array([[0, 257, 128 * 257], [40000, 65535, 65407]], np.uint16)
    found = pixels(encoded(Image.fromarray(values), format))
    assert (found == found[:, :, :1]).all()
    np.testing.assert_array_equal(found[:, :, 0], np.round(values / 257).astype(np.uint8))


def test_16_bit_big_endian_tiff_is_scaled() -> None:
    image = Image.frombytes("I;16B", (2, 1), np.array([0, 65535], ">u2").tobytes())
    assert pixels(encoded(image, "TIFF"))[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize("mode", ["F", "I"])
def test_pixels_without_a_fixed_range_are_refused(mode: str) -> None:
    with pytest.raises(DecodeError, match=f"mode {mode} have no fixed range; save the image with 8 or 16 bits"):
        pixels(encoded(Image.new(mode, (4, 4), 3), "TIFF"))


def test_transparency_is_laid_on_white() -> None:
    rgba = Image.new("RGBA", (3, 1))
    rgba.putdata([(10, 20, 30, 255), (200, 0, 0, 0), (0, 0, 0, 128)])  # opaque, hidden red, half black
    assert pixels(encoded(rgba))[0].tolist() == [[10, 20, 30], [255, 255, 255], [127, 127, 127]]


def test_grey_with_alpha_is_laid_on_white() -> None:
    image = Image.new("LA", (2, 1))
    image.putdata([(40, 255), (0, 0)])
    assert pixels(encoded(image))[0].tolist() == [[40] * 3, [255] * 3]


@pytest.mark.parametrize("format", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_white(format: str) -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([1, 2, 3, 200, 0, 0])
    image.putdata([0, 1])
    assert pixels(encoded(image, format, transparency=1))[0].tolist() == [[1, 2, 3], [255, 255, 255]]


def test_a_transparent_colour_of_rgb_is_white() -> None:
    image = Image.new("RGB", (2, 1), (9, 9, 9))
    image.putpixel((1, 0), (200, 0, 0))
    assert pixels(encoded(image, transparency=(200, 0, 0)))[0].tolist() == [[9, 9, 9], [255, 255, 255]]


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_a_single_pixel_fills_the_models_input(mode: str) -> None:
    transform: Any = create_transform((3, 32, 32), normalize=False)
    found = decode(encoded(Image.new("RGB", (1, 1), (102, 102, 102)).convert(mode)), transform, max_pixels=MANY)
    assert found.shape == (3, 32, 32) and (found == 102).all()


def test_of_an_animation_the_first_frame_is_taken() -> None:
    first, second = Image.new("RGB", (4, 4), (255, 0, 0)), Image.new("RGB", (4, 4), (0, 0, 255))
    data = encoded(first, "GIF", save_all=True, append_images=[second])
    assert (pixels(data) == [255, 0, 0]).all()


def test_frames_and_pages_are_counted_but_not_previews() -> None:
    def count(data: bytes) -> int:
        return decode_counted(data, whole, max_pixels=MANY)[1]

    frames = [photo(seed=seed) for seed in range(3)]
    for format in ("GIF", "PNG", "WEBP", "TIFF", "AVIF"):
        assert count(encoded(frames[0], format, save_all=True, append_images=frames[1:])) == 3, format
        assert count(encoded(frames[0], format)) == 1, format
    assert count(encoded(frames[0], "MPO", save_all=True, append_images=frames[1:])) == 1, "as phones keep previews"
    assert count(encoded(frames[0], "ICO", sizes=[(16, 16), (32, 32)])) == 1
    pages = io.BytesIO()
    with TiffImagePlugin.AppendingTiffWriter(pages, True) as tiff:
        frames[0].save(tiff, "TIFF")
        tiff.newFrame()
        frames[1].resize((6, 4)).save(tiff, "TIFF", tiffinfo={254: 1})
    assert count(pages.getvalue()) == 1, "a smaller version of the page"


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int) -> None:
    """Reference: Pillow's own exif_transpose."""
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(photo(), "PNG", exif=exif)
    np.testing.assert_array_equal(pixels(data), np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))))


@pytest.mark.parametrize("mode", ["I;16", "RGBA"])
def test_the_orientation_is_applied_to_converted_modes_too(mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert pixels(encoded(Image.new(mode, (5, 2)), exif=exif)).shape == (5, 2, 3)


def test_a_damaged_exif_tag_does_not_cost_the_image() -> None:
    data = encoded(photo(), "JPEG", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xffgarbage")
    np.testing.assert_array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


def test_a_colour_profile_changes_nothing_as_in_timm() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    np.testing.assert_array_equal(pixels(encoded(photo(), icc_profile=profile)), np.asarray(photo()))


BAD = {
    "empty": (b"", "the file is empty"),
    "text": (b"<html>404 not found</html>", "not an image of a known format"),
    "zeros": (b"\0" * 4096, "not an image of a known format"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "not an image of a known format"),
    "eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "not an image of a known format"),
    "header only": (encoded(photo())[:20], "truncated"),
    "half a png": (encoded(photo())[:2000], "damaged or truncated"),
    "half a jpeg": (encoded(photo(300, 300), "JPEG")[:5000], "damaged or truncated: OSError: image file is truncated"),
}


@pytest.mark.parametrize(("data", "reason"), BAD.values(), ids=BAD)
def test_bytes_that_are_no_whole_image_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DecodeError, match=reason):
        pixels(data)


CODECS: dict[str, bytes] = {
    "png": encoded(photo()),
    "jpeg": encoded(photo(), "JPEG"),
    "progressive jpeg": encoded(photo(), "JPEG", progressive=True),
    "cmyk jpeg": encoded(photo().convert("CMYK"), "JPEG"),
    "gif": encoded(photo(), "GIF"),
    "bmp": encoded(photo(), "BMP"),
    "ppm": encoded(photo(), "PPM"),
    "tiff": encoded(photo(), "TIFF"),
    "tiff lzw": encoded(photo(), "TIFF", compression="tiff_lzw"),
    "webp": encoded(photo(), "WEBP"),
    "jpeg2000": encoded(photo(), "JPEG2000"),
}


@pytest.mark.parametrize("data", CODECS.values(), ids=CODECS)
@settings(max_examples=60, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_never_half_an_image(data: bytes, share: float) -> None:
    try:
        found = pixels(data[: int(share * len(data))])
    except DecodeError:
        return
    np.testing.assert_array_equal(found, pixels(data))  # only bytes that hold no pixels were missing


@pytest.mark.parametrize("data", CODECS.values(), ids=CODECS)
@settings(max_examples=60, deadline=None)
@given(place=st.floats(0, 1, exclude_max=True), junk=st.binary(min_size=1, max_size=8))
def test_damaged_bytes_raise_nothing_but_decode_error(data: bytes, place: float, junk: bytes) -> None:
    start = int(place * len(data))
    damaged = data[:start] + junk + data[start + len(junk) :]
    try:
        assert pixels(damaged).dtype == np.uint8
    except DecodeError as error:
        assert str(error)


def test_the_size_is_checked_before_pixels_are_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "to_rgb", lambda image: pytest.fail("decoded"))
    with pytest.raises(DecodeError, match=r"60x44 is more than the 2639 pixels allowed \(ingest.max_pixels\)"):
        pixels(CODECS["png"], max_pixels=60 * 44 - 1)


def test_an_image_of_exactly_the_allowed_size_is_decoded() -> None:
    assert pixels(CODECS["png"], max_pixels=60 * 44).shape == (44, 60, 3)


def test_a_decompression_bomb_is_refused_from_its_header() -> None:
    header = PngImagePlugin.PngImageFile(io.BytesIO(encoded(Image.new("1", (1, 1)))))
    assert header.size == (1, 1)
    bomb = bytearray(encoded(Image.new("1", (1, 1))))
    bomb[16:24] = (60000).to_bytes(4, "big") * 2
    bomb[29:33] = _png_crc(bytes(bomb[12:29]))
    with pytest.raises(DecodeError, match="decompression bomb: .*3600000000 pixels"):
        pixels(bytes(bomb))


def _png_crc(chunk: bytes) -> bytes:
    import zlib

    return zlib.crc32(chunk).to_bytes(4, "big")


def test_a_thin_strip_is_refused_before_it_is_resized() -> None:
    def transform(image: Image.Image) -> Tensor:
        pytest.fail("transformed")

    with pytest.raises(DecodeError, match="1x201 is a strip of more than 200:1"):
        decode(encoded(Image.new("L", (1, 201))), transform, max_pixels=MANY)


def test_an_error_of_the_transform_is_not_the_images() -> None:
    def broken(image: Image.Image) -> Tensor:
        raise RuntimeError("the transform is broken")

    transform: Callable[[Image.Image], Tensor] = broken
    with pytest.raises(RuntimeError, match="the transform is broken"):
        decode(CODECS["png"], transform, max_pixels=MANY)
