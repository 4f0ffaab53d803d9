"""Each kind of broken or odd file, against Pillow by hand; the encoder against timm's own."""

import contextlib
import io
import random
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_transform

from tlx.data.images import digits as embedded
from tlx.data.images import inputs as images
from tlx.data.images import read as reading
from tlx.data.images.inputs import image_encoder
from tlx.data.images.read import BadImage, load_image, to_rgb
from tlx.data.images.spec import ImageSpec
from tlx.data.text.spec import TextSpec

SPEC = ImageSpec(
    size=(3, 32, 32),
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    interpolation="bicubic",
    crop_pct=0.875,
)


def photo(width=40, height=30, seed=0):
    """Smooth colours, so that JPEG keeps them."""
    generator = np.random.default_rng(seed)
    small = Image.fromarray(generator.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return small.resize((width, height), Image.Resampling.BICUBIC)


def saved(image, kind, **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def pixels(image):
    assert image.mode == "RGB"
    return np.asarray(image)


def png(width, height, depth, colour, rows):
    """A PNG by hand."""
    import struct
    import zlib

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_zero_bytes_are_bad():
    with pytest.raises(BadImage, match="empty"):
        load_image(b"")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("share", [0.3, 0.7, 0.95])
def test_a_cut_file_is_bad(kind, share):
    whole = saved(photo(200, 150), kind)
    load_image(whole)
    with pytest.raises(BadImage):
        load_image(whole[: int(share * len(whole))])


def test_a_text_named_jpg_is_bad(tmp_path):
    file = tmp_path / "notes.jpg"
    file.write_text("These are my notes.\n" * 40)
    with pytest.raises(BadImage, match="no image"):
        load_image(file)


def test_a_missing_file_and_a_folder_are_bad(tmp_path):
    for path in (tmp_path / "none.jpg", tmp_path):
        with pytest.raises(BadImage, match="cannot be opened"):
            load_image(path)


def test_cmyk_is_converted():
    cmyk = photo().convert("CMYK")
    data = saved(cmyk, "JPEG", quality=95)
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.mode == "CMYK"
        expected = np.asarray(opened.convert("RGB"))
    assert (pixels(load_image(data)) == expected).all()
    # and the colours are those of the picture, not inverted
    assert np.abs(expected.astype(int) - np.asarray(photo()).astype(int)).mean() < 12


def test_sixteen_bits_are_scaled_not_clipped():
    deep = np.linspace(0, 65535, 40 * 30).astype(np.uint16).reshape(30, 40)
    data = saved(Image.fromarray(deep), "PNG")
    expected = np.rint(deep.astype(float) / 65535 * 255)
    found = pixels(load_image(data))
    for channel in range(3):
        assert np.abs(found[..., channel] - expected).max() == 0


def test_sixteen_bit_colours_are_scaled():
    values = [0, 257 * 10, 65535, 257 * 200, 257 * 30, 257]
    rows = b"\0" + b"".join(v.to_bytes(2, "big") for v in values)
    found = pixels(load_image(png(2, 1, 16, 2, rows)))
    assert found.tolist() == [[[0, 10, 255], [200, 30, 1]]]


def test_twelve_bits_in_a_tiff_are_sixteen():
    deep = (np.arange(12, dtype=np.uint16) * 5000).reshape(3, 4)
    found = pixels(load_image(saved(Image.fromarray(deep), "TIFF")))
    assert (found[..., 0] == np.rint(deep / 257)).all()


def test_floats_have_no_range_and_are_refused():
    with pytest.raises(BadImage, match="32 bits"):
        load_image(saved(Image.fromarray(np.ones((3, 4), np.float32)), "TIFF"))


def test_palette():
    palette = photo().quantize(16)
    found = pixels(load_image(saved(palette, "PNG")))
    assert (found == np.asarray(palette.convert("RGB"))).all()


@pytest.mark.parametrize("transparency", [3, bytes([0, 128, 255, 7] * 4)], ids=["one", "each"])
def test_palette_with_transparency_keeps_its_colours(transparency):
    palette = photo().quantize(16)
    data = saved(palette, "PNG", transparency=transparency)
    with Image.open(io.BytesIO(data)) as opened:
        assert "transparency" in opened.info
    assert (pixels(load_image(data)) == np.asarray(palette.convert("RGB"))).all()


def test_alpha_is_dropped():
    colours = photo()
    clear = colours.copy()
    clear.putalpha(Image.linear_gradient("L").resize(colours.size))
    assert (pixels(load_image(saved(clear, "PNG"))) == np.asarray(colours)).all()


@pytest.mark.parametrize("mode", ["L", "1", "LA"])
def test_grey_becomes_rgb(mode):
    grey = photo().convert(mode)
    expected = np.asarray(grey.convert("L"))
    found = pixels(load_image(saved(grey, "PNG")))
    assert all((found[..., c] == expected).all() for c in range(3))


def test_of_an_animation_the_first_frame():
    frames = [photo(seed=i).quantize(64) for i in range(3)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with Image.open(io.BytesIO(data)) as opened:
        assert opened.n_frames == 3
    assert (pixels(load_image(data)) == np.asarray(frames[0].convert("RGB"))).all()


TURNED = {  # as numpy does it: rows from the top, columns from the left
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation_is_undone(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(photo(), kind, exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        stored = np.asarray(opened.convert("RGB"))
    assert (pixels(load_image(data)) == TURNED[orientation](stored)).all()


@pytest.mark.parametrize("value", [0, 9, 77])
def test_an_unknown_orientation_turns_nothing(value):
    exif = Image.Exif()
    exif[0x0112] = value
    assert load_image(saved(photo(), "JPEG", exif=exif)).size == (40, 30)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_damaged_exif_block_turns_nothing():
    data = saved(photo(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\x7f")
    assert load_image(data).size == (40, 30)


@pytest.mark.parametrize("side", [10_000, 60_000])
def test_a_decompression_bomb_is_bad_before_it_is_decoded(side):
    with pytest.raises(BadImage, match="too large"):
        load_image(png(side, side, 8, 2, b"\0"))


def test_the_limit_is_ours_whatever_pillow_allows(monkeypatch):
    monkeypatch.setattr(reading, "MAX_PIXELS", 40 * 30)
    assert load_image(saved(photo(), "PNG")).size == (40, 30)
    monkeypatch.setattr(reading, "MAX_PIXELS", 40 * 30 - 1)
    with pytest.raises(BadImage, match="40×30"):
        load_image(saved(photo(), "PNG"))
    with pytest.raises(BadImage, match="40×30"):
        to_rgb(photo())


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_random_damage_is_bad_or_read_and_nothing_else(kind):
    whole = saved(photo(64, 64), kind)
    draw = random.Random(0)
    for _ in range(150):
        broken = bytearray(whole)
        for _ in range(draw.randint(1, 8)):
            broken[draw.randrange(len(broken))] = draw.randrange(256)
        with contextlib.suppress(BadImage):
            assert load_image(bytes(broken)).mode == "RGB"


def test_other_formats_are_not_opened():
    data = saved(photo(), "EPS")
    with pytest.raises(BadImage, match="no image"):
        load_image(data)


# -- encoder --------------------------------------------------------------------------------------


def encoded(image, spec, augmentations=(), train=False, **options):
    encode = image_encoder(spec, augmentations, train=train, **options)
    return encode({"id": "x", "input": image, "target": 1})


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (301, 200), (17, 90), (8, 8), (32, 32)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest", "lanczos"])
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0])
def test_encoder_is_timms(size, interpolation, crop_pct):
    spec = replace(SPEC, interpolation=interpolation, crop_pct=crop_pct)
    image = photo(*size)
    theirs = create_transform(
        (3, 32, 32),
        is_training=False,
        interpolation=interpolation,
        mean=spec.mean,
        std=spec.std,
        crop_pct=crop_pct,
    )(image)
    ours = encoded(image, spec)["input"]
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("mode", ["squash", "border"])
def test_other_crop_modes_are_timms(mode):
    image = photo(50, 37)
    theirs = create_transform(
        (3, 32, 32),
        is_training=False,
        interpolation="bicubic",
        mean=SPEC.mean,
        std=SPEC.std,
        crop_pct=0.9,
        crop_mode=mode,
    )(image)
    ours = encoded(image, replace(SPEC, crop_pct=0.9, crop_mode=mode))["input"]
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


@pytest.mark.parametrize("size", [(9, 400), (400, 7), (3, 1000), (31, 901)])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "lanczos", "box"])
def test_a_strip_is_cropped_before_it_is_scaled_with_the_same_pixels(
    monkeypatch, size, interpolation
):
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    image, kind = Image.fromarray(pixels), images.RESAMPLING[interpolation]
    fit = images.Centre((48, 32), kind, 0.9, "center", (0, 0, 0))
    width, height = fit._scaled(*size)
    left, top = round((width - 32) / 2), round((height - 48) / 2)
    whole = image.resize((width, size[1]), kind).resize((width, height), kind)
    expected = np.asarray(whole.crop((left, top, left + 32, top + 48))).astype(int)
    monkeypatch.setattr(images, "MAX_PIXELS", 1)
    difference = np.abs(np.asarray(fit(image)) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 5e-3


@pytest.mark.parametrize("size", [(2, 60_000), (60_000, 2)])
@pytest.mark.parametrize("mode", ["center", "squash", "border"])
def test_a_strip_takes_no_more_memory_than_another_image(size, mode):
    """Scaled by its short side it would have 1.6 thousand million pixels."""
    fit = images.Centre((224, 224), images.RESAMPLING["bicubic"], 0.95, mode, (0, 0, 0))
    image = Image.new("RGB", size, (9, 9, 9))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert fit(image).size == (224, 224)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB


def test_one_channel_is_grey():
    spec = replace(SPEC, size=(1, 32, 32), mean=(0.5,), std=(0.25,))
    found = encoded(photo(32, 32), replace(spec, crop_pct=1.0))["input"]
    expected = np.asarray(photo(32, 32).convert("L")) / 255
    assert found.shape == (1, 32, 32)
    np.testing.assert_allclose(found[0].numpy(), (expected - 0.5) / 0.25, atol=1e-5)


def test_other_channels_are_refused():
    with pytest.raises(ValueError, match="in_chans=4"):
        image_encoder(replace(SPEC, size=(4, 32, 32)), [], train=False)


def test_a_text_backbone_is_refused():
    with pytest.raises(ValueError, match="takes 'text'"):
        image_encoder(TextSpec("", 1), [], train=False)


def test_evaluation_draws_nothing_and_leaves_the_image_alone():
    image, before = photo(), photo().tobytes()
    state = torch.get_rng_state()
    encoded(image, SPEC)
    assert (torch.get_rng_state() == state).all()
    assert image.tobytes() == before


def test_digits_of_some_classes():
    low = embedded.digits(classes=[4, 0, 2])
    assert low.labels.names == ("0", "2", "4")
    assert set(low.train.targets) == {0, 1, 2}
    whole = embedded.digits()
    total = sum(len(s) for s in (low.train, low.val, low.test))
    kept = [t for s in (whole.train, whole.val, whole.test) for t in s.targets if t in {0, 2, 4}]
    assert total == len(kept)


@pytest.mark.parametrize("classes", [[1], [1, 1], [3, 10], []])
def test_digits_of_wrong_classes_are_refused(classes):
    with pytest.raises(ValueError, match=r"dataset\.classes"):
        embedded.digits(classes=classes)


@pytest.mark.parametrize("shift", ["noise", "rotation", "contrast", "inversion"])
def test_shifted_digits_keep_their_labels_and_change_their_images(shift):
    plain, shifted = embedded.digits(), embedded.digits(shift=shift)
    assert list(plain.test.targets) == list(shifted.test.targets)
    assert plain.fingerprint != shifted.fingerprint
    first = np.asarray(plain.test[0]["input"]), np.asarray(shifted.test[0]["input"])
    assert not np.array_equal(*first)
    if shift == "inversion":
        assert np.array_equal(first[0], 255 - first[1])


def test_digits_under_other_names_keep_their_images():
    plain, renamed = embedded.digits(), embedded.digits(shift="labels")
    by_id = dict(zip(plain.test.ids, plain.test.targets, strict=True))
    for identity, target in zip(renamed.test.ids, renamed.test.targets, strict=True):
        if identity in by_id:
            assert target == (by_id[identity] + 3) % 10
