//! Where the library of ONNX Runtime may be, in the order in which it is looked for.

use std::path::PathBuf;

/// A place to look at.
pub(super) struct Candidate {
    /// A file: what is loaded is hashed before.
    pub(super) path: PathBuf,
    /// Named by the user, so that nothing else is tried.
    pub(super) chosen: bool,
}

#[cfg(target_os = "windows")]
const NAMES: &[&str] = &["onnxruntime.dll"];
#[cfg(target_os = "macos")]
const NAMES: &[&str] = &["libonnxruntime.dylib", "libonnxruntime.1.dylib"];
#[cfg(not(any(target_os = "windows", target_os = "macos")))]
const NAMES: &[&str] = &["libonnxruntime.so", "libonnxruntime.so.1"];

/// `ORT_DYLIB_PATH`, beside the executable, what the build fetched, where systems keep libraries.
pub(super) fn candidates() -> Vec<Candidate> {
    if let Some(path) = std::env::var_os("ORT_DYLIB_PATH").filter(|path| !path.is_empty()) {
        return vec![Candidate {
            path: path.into(),
            chosen: true,
        }];
    }
    let folder = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.parent().map(PathBuf::from));
    let beside = folder
        .iter()
        .flat_map(|folder| NAMES.iter().map(|name| folder.join(name)));
    let fetched = option_env!("DETHRONE_BUNDLED_ORT").map(PathBuf::from);
    let system = system_folders();
    let installed = system
        .iter()
        .flat_map(|folder| NAMES.iter().map(|name| folder.join(name)));
    let files = beside.chain(fetched).chain(installed).filter(|path| path.is_file());
    files.map(|path| Candidate { path, chosen: false }).collect()
}

/// Where systems keep their libraries. Others are named by `ORT_DYLIB_PATH`.
fn system_folders() -> Vec<PathBuf> {
    let listed = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let mut folders: Vec<PathBuf> = std::env::split_paths(&listed).filter(|p| p.is_absolute()).collect();
    let triplet = format!("/usr/lib/{}-linux-gnu", std::env::consts::ARCH);
    let usual = [
        "/usr/local/lib",
        "/opt/homebrew/lib",
        "/usr/lib",
        "/usr/lib64",
        triplet.as_str(),
    ];
    folders.extend(usual.iter().map(PathBuf::from));
    folders
}

/// The message where the library that the user chose cannot be used.
pub(super) fn chosen_in_vain(why: &str) -> String {
    let name = NAMES.first().copied().unwrap_or_default();
    format!(
        "ORT_DYLIB_PATH: {why}. set it to {name} of onnx runtime 1.32 or newer (`pip install onnxruntime` brings one, in \
         onnxruntime/capi), or unset it: then the library beside the executable, the one that the build fetched and \
         the system's are tried"
    )
}

/// The one message for a machine without a usable library.
pub(super) fn ways_out(tried: &[String]) -> String {
    let name = NAMES.first().copied().unwrap_or_default();
    format!(
        "there is no usable onnx runtime here ({}). any one of these helps: put {name} of onnx runtime 1.32 or newer \
         beside the executable; set ORT_DYLIB_PATH to it (`pip install onnxruntime` brings one, in onnxruntime/capi); \
         or build again where pip works, which fetches it",
        tried.join("; ")
    )
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_machine_without_a_library_is_told_three_ways_out_and_what_was_tried() {
        let text = super::ways_out(&["a.so is no library".to_owned()]);
        for piece in [
            "a.so is no library",
            "beside the executable",
            "ORT_DYLIB_PATH",
            "pip install",
            "build again",
        ] {
            assert!(text.contains(piece), "{text}");
        }
    }
}
