"""Images of every kind become RGB, or are refused for one of the known reasons."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from typing import Any

import numpy as np
import pytest
from PIL import Image
from shard_files import encoded

from benchmark.pool.storage import decode
from benchmark.pool.storage.decode import SampleFault, image_from, pixels_from

RED = (200, 16, 32)


def near(image: Image.Image, color: tuple[int, ...], slack: int = 12) -> bool:
    return all(abs(a - b) <= slack for a, b in zip(image.getpixel((3, 3)), color, strict=True))


def solid(mode: str, color: Any) -> Image.Image:
    return Image.new(mode, (16, 12), color)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP"])
def test_formats_are_told_by_content(kind: str) -> None:
    image = image_from(encoded(solid("RGB", RED), kind))
    assert (image.mode, image.size) == ("RGB", (16, 12))
    assert near(image, RED)


@pytest.mark.parametrize(
    ("image", "kind", "expected"),
    [
        (solid("RGB", RED).convert("CMYK"), "JPEG", RED),
        (solid("L", 77), "JPEG", (77, 77, 77)),
        (solid("L", 77), "PNG", (77, 77, 77)),
        (solid("1", 1), "PNG", (255, 255, 255)),
        (solid("RGB", RED).quantize(4), "PNG", RED),
        (solid("RGBA", (*RED, 255)), "PNG", RED),
        (solid("RGBA", (*RED, 0)), "PNG", (255, 255, 255)),
        (solid("RGBA", (0, 0, 0, 128)), "WEBP", (127, 127, 127)),
        (solid("LA", (0, 0)), "PNG", (255, 255, 255)),
        (Image.fromarray(np.full((12, 16), 0x4D00, dtype=np.uint16)), "PNG", (77, 77, 77)),
    ],
    ids=["cmyk", "grey-jpeg", "grey", "bits", "palette", "opaque", "clear", "half", "grey-alpha", "16-bit"],
)
def test_modes_become_rgb_on_white(image: Image.Image, kind: str, expected: tuple[int, ...]) -> None:
    decoded = image_from(encoded(image, kind))
    assert decoded.mode == "RGB"
    assert near(decoded, expected)


def test_a_transparent_palette_is_put_on_white() -> None:
    palette = solid("P", 0)
    palette.putpalette([*RED, 0, 0, 0])
    assert near(image_from(encoded(palette, "PNG", transparency=0)), (255, 255, 255))
    assert near(image_from(encoded(solid("RGB", RED), "PNG", transparency=RED)), (255, 255, 255))


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(kind: str) -> None:
    frames = [solid("RGB", RED), solid("RGB", (0, 255, 0))]
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:])
    assert near(image_from(data), RED)


def test_exif_orientation_is_left_alone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert image_from(encoded(solid("RGB", RED), "JPEG", exif=exif)).size == (16, 12)


def test_too_many_pixels_are_refused_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert image_from(encoded(Image.new("RGB", (40, 25)), "PNG")).size == (40, 25)
    for size in ((40, 26), (4000, 26)):
        with pytest.raises(SampleFault) as fault, pytest.warns() if size[0] == 40 else nullcontext():
            image_from(encoded(Image.new("RGB", size), "PNG"))
        assert fault.value.reason == "image_too_large"


@pytest.mark.slow
def test_the_default_limit_stops_a_bomb() -> None:
    bomb = encoded(Image.new("1", (30_000, 30_000)), "PNG")
    assert len(bomb) < 1 << 20
    with pytest.raises(SampleFault) as fault:
        image_from(bomb)
    assert fault.value.reason == "image_too_large"


@pytest.mark.parametrize("data", [b"<html></html>", b"\xff\xd8\xff", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"GIF89a"])
def test_what_is_no_image_is_undecodable(data: bytes) -> None:
    with pytest.raises(SampleFault) as fault:
        image_from(data)
    assert fault.value.reason == "image_undecodable"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_cut_image_is_undecodable_not_grey(kind: str) -> None:
    rng = np.random.default_rng(0)
    data = encoded(Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)), kind)
    for keep in (len(data) // 3, len(data) - 60):
        with pytest.raises(SampleFault) as fault:
            image_from(data[:keep])
        assert fault.value.reason == "image_undecodable"


@pytest.mark.parametrize(("target", "side"), [(None, 512), (64, 64), (65, 128), (250, 256), (300, 512), (20, 64)])
def test_draft_decoding_never_falls_below_the_target(target: int | None, side: int) -> None:
    data = encoded(Image.new("RGB", (1024, 512), RED), "JPEG")
    assert image_from(data, target).size == (2 * side, side)


def test_flipped_bytes_never_raise_anything_else() -> None:
    rng = np.random.default_rng(1)
    pictures = [Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)) for _ in range(2)]
    for kind in ("JPEG", "PNG", "WEBP", "GIF", "BMP"):
        data = np.frombuffer(encoded(pictures[0], kind), np.uint8)
        for _ in range(150):
            damaged = data.copy()
            damaged[rng.integers(0, len(data), 3)] = rng.integers(0, 256, 3)
            with suppress(SampleFault):
                assert image_from(damaged[: rng.integers(1, len(data) + 1)].tobytes()).mode == "RGB"


def test_the_image_outlives_its_bytes() -> None:
    image = image_from(bytearray(encoded(solid("RGB", RED), "JPEG")))
    assert image.resize((4, 4)).getpixel((0, 0)) == image.getpixel((0, 0))


def slope(mode: str, height: int, width: int) -> Image.Image:
    rows, columns = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)[None]
    return Image.fromarray(((rows + columns) / 2).astype(np.uint8)).convert(mode)


@pytest.mark.parametrize(
    ("kind", "mode"), [("JPEG", "RGB"), ("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("BMP", "L")]
)
def test_a_huge_image_to_evaluate_on_keeps_what_a_crop_shows_and_a_quarter_of_its_pixels(
    kind: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "HUGE_SIDE", decode.HUGE_SIDE // 8)
    monkeypatch.setattr(decode, "HUGE_KEPT", decode.HUGE_KEPT // 8)
    data = encoded(slope(mode, 520, 640), kind)
    whole, small = image_from(data), image_from(data, shrink_huge=True)
    assert (whole.size, small.size, small.mode) == ((640, 520), (320, 260), "RGB")
    crops = [np.asarray(image.resize((224, 224), Image.Resampling.BICUBIC), dtype=int) for image in (whole, small)]
    assert np.abs(crops[0] - crops[1]).max() <= 3


def test_an_image_with_a_side_below_the_limit_is_bit_equal() -> None:
    data = encoded(slope("RGB", 200, decode.HUGE_SIDE + 100), "JPEG")
    np.testing.assert_array_equal(np.asarray(image_from(data)), np.asarray(image_from(data, shrink_huge=True)))


def odd_files() -> dict[str, bytes]:
    """Files of every kind that a crawl brings home, of one smooth picture."""
    rng = np.random.default_rng(5)
    noise = Image.fromarray(rng.integers(0, 256, (6, 8, 4), dtype=np.uint8), "RGBA")
    rgba = noise.resize((75, 50), Image.Resampling.BICUBIC)
    rgb, deep = rgba.convert("RGB"), rng.integers(0, 1 << 16, (50, 75), dtype=np.uint16)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded(rgb, "JPEG")
    return {
        "jpeg": whole,
        "progressive": encoded(rgb, "JPEG", progressive=True),
        "not-subsampled": encoded(rgb, "JPEG", subsampling=0, quality=97),
        "rotated-by-exif": encoded(rgb, "JPEG", exif=exif),
        "grey-jpeg": encoded(rgb.convert("L"), "JPEG"),
        "cmyk-jpeg": encoded(rgb.convert("CMYK"), "JPEG"),
        "rgba-png": encoded(rgba, "PNG"),
        "palette-png": encoded(rgb.quantize(16), "PNG"),
        "16-bit-png": encoded(Image.fromarray(deep), "PNG"),
        "webp": encoded(rgba, "WEBP"),
        "gif": encoded(rgb, "GIF"),
        "truncated": whole[: len(whole) // 2],
        "cut-by-a-byte": whole[:-3],
        "empty": b"",
        "no-image": b"<html></html>",
    }


def told(decode: Any, data: bytes, *size: int) -> Any:
    """The picture's values, or why there is none."""
    try:
        return np.asarray(decode(data, *size)).tolist()
    except SampleFault as fault:
        return fault.reason


@pytest.mark.parametrize("kind", odd_files())
@pytest.mark.parametrize("size", [(), (12,)], ids=["whole", "drafted"])
def test_arrays_hold_the_picture_that_pillow_gives_or_the_same_reason(kind: str, size: tuple[int, ...]) -> None:
    data = odd_files()[kind]
    assert told(pixels_from, data, *size) == told(image_from, data, *size)


def test_damaged_jpegs_have_one_fate_with_both_decoders() -> None:
    rng = np.random.default_rng(2)
    files = odd_files()
    fates = set()
    for kind in ("jpeg", "progressive", "grey-jpeg"):
        for _ in range(120):
            damaged = bytearray(files[kind])
            for place in rng.integers(0, len(damaged), rng.integers(0, 3)):
                damaged[place] = rng.integers(0, 256)
            data = bytes(damaged[: len(damaged) - rng.integers(0, len(damaged) // 4) * rng.integers(0, 2)])
            found = told(pixels_from, data)
            assert found == told(image_from, data)
            fates.add(found if isinstance(found, str) else "decoded")
    assert fates == {"image_undecodable", "decoded"}


def test_too_many_pixels_are_refused_of_arrays_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(SampleFault) as fault, pytest.warns():
        pixels_from(encoded(Image.new("RGB", (40, 26)), "JPEG"))
    assert fault.value.reason == "image_too_large"
