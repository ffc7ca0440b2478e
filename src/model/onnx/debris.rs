//! What lies under a model's name and is no model: each kind by its own sentence, with what to do.

use super::ScanError;

/// Beginnings of files, and what they are.
const BEGINNINGS: &[(&[u8], &str)] = &[
    (
        b"version https://git-lfs",
        "a git-lfs pointer, not the model itself: run `git lfs pull` and copy the file again",
    ),
    (
        b"PK\x03\x04",
        "a zip archive (PyTorch's own format is one): export to onnx, or unpack it",
    ),
    (b"\x1f\x8b", "a gzip archive: unpack it"),
    (b"BZh", "a bzip2 archive: unpack it"),
    (b"\xfd7zXZ\x00", "an xz archive: unpack it"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it"),
    (b"GGUF", "a GGUF file (llama.cpp): export to onnx"),
    (b"\x93NUMPY", "an array of NumPy, not a model"),
    (b"\x7fELF", "a program or library (ELF), not a model"),
    (b"MZ", "a Windows program or library, not a model"),
    (b"\x89HDF", "an HDF5 file (Keras): convert it with tf2onnx"),
    (
        b"\x80\x02",
        "a Python pickle: export to onnx, for scikit-learn with skl2onnx",
    ),
    (
        b"\x80\x03",
        "a Python pickle: export to onnx, for scikit-learn with skl2onnx",
    ),
    (
        b"\x80\x04",
        "a Python pickle: export to onnx, for scikit-learn with skl2onnx",
    ),
    (
        b"\x80\x05",
        "a Python pickle: export to onnx, for scikit-learn with skl2onnx",
    ),
];

/// Known debris by its first bytes.
pub(super) fn recognise(bytes: &[u8]) -> Option<ScanError> {
    if bytes.is_empty() {
        return Some(ScanError("the file is empty: copy it again, whole".into()));
    }
    // The format's mark stands after the offset of its root.
    if bytes.get(4..8) == Some(b"ORTM") {
        return Some(ScanError(
            "an .ort file (onnx runtime's own format): keep the .onnx file it was made from, and use that".into(),
        ));
    }
    if let Some((_, what)) = BEGINNINGS.iter().find(|(start, _)| bytes.starts_with(start)) {
        return Some(ScanError(format!("the file is {what}")));
    }
    if bytes.get(4..8) == Some(b"TFL3") {
        return Some(ScanError(
            "the file is a TensorFlow Lite model: convert it with tf2onnx".into(),
        ));
    }
    // A length of eight bytes, then JSON.
    if bytes.get(4..10) == Some(b"\0\0\0\0{\"") {
        return Some(ScanError(
            "the file is a safetensors file, weights without a graph: export the model to onnx".into(),
        ));
    }
    if bytes.get(257..262) == Some(b"ustar") {
        return Some(ScanError("the file is a tar archive: unpack it".into()));
    }
    // A page may be long, and the cut may fall into a character.
    let head = bytes.get(..bytes.len().min(512)).unwrap_or_default();
    let head = String::from_utf8_lossy(head)
        .trim_start_matches('\u{feff}')
        .trim_start()
        .to_ascii_lowercase();
    if head.starts_with("<!doctype") || head.starts_with("<html") || head.starts_with("<?xml") {
        return Some(ScanError(
            "the file is a web page, most likely an error instead of the download: fetch the model again".into(),
        ));
    }
    None
}

/// True for files that are only text: their faults as protobuf would tell nobody anything.
pub(super) fn is_text(bytes: &[u8]) -> bool {
    let head = bytes.get(..bytes.len().min(4096)).unwrap_or_default();
    let strange = head
        .iter()
        .filter(|&&b| b < 0x20 && !matches!(b, b'\n' | b'\r' | b'\t'))
        .count();
    strange == 0
}

/// What to say of text.
pub(super) fn text() -> ScanError {
    ScanError("not an onnx model: the file is plain text. export the model to onnx".into())
}
