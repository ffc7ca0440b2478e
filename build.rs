//! Fetches ONNX Runtime's library for the target platform, so that one `cargo build` is enough.
//!
//! The wheel comes through `pip`, which honours the user's index and proxy settings and checks the hashes in
//! `requirements-ort.txt`. The library is put beside the executable and beside the tests. Nothing is fetched
//! when `ORT_DYLIB_PATH` is set or the library is already there. A failed fetch is a warning: the build goes on,
//! and the program says at its start what is missing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

const REQUIREMENTS: &str = "requirements-ort.txt";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={REQUIREMENTS}");
    println!("cargo:rerun-if-env-changed=ORT_DYLIB_PATH");
    if env::var_os("ORT_DYLIB_PATH").is_some_and(|path| !path.is_empty()) {
        return;
    }
    if let Err(why) = bundle() {
        println!("cargo:warning=ONNX Runtime was not fetched: {why}");
        println!("cargo:warning=the build goes on; set ORT_DYLIB_PATH to a library of ONNX Runtime 1.32 or newer");
        // A path that never exists makes the next build try again.
        println!("cargo:rerun-if-changed=fetch-onnx-runtime-again");
    }
}

fn bundle() -> Result<(), String> {
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?);
    let platform = Platform::of_target()?;
    let library = out.join(platform.library);
    if !library.is_file() {
        fetch(&out, &platform, &library)?;
    }
    println!("cargo:rustc-env=DETHRONE_BUNDLED_ORT={}", library.display());
    // OUT_DIR is <profile>/build/<package>/out. A failure here costs nothing but that the folder cannot be moved:
    // the library is found where it was fetched.
    if let Some(profile) = out.ancestors().nth(3) {
        for beside in [profile.to_path_buf(), profile.join("deps")] {
            if let Err(why) = place(&library, &beside.join(platform.library)) {
                println!(
                    "cargo:warning=ONNX Runtime was not put into {}: {why}",
                    beside.display()
                );
            }
        }
    }
    Ok(())
}

/// How the target is called by the package index, and what the library is called there.
struct Platform {
    tag: &'static str,
    library: &'static str,
}

impl Platform {
    fn of_target() -> Result<Self, String> {
        let os = env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
        let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
        let (tag, library) = match (os.as_str(), arch.as_str()) {
            ("linux", "x86_64") => ("manylinux_2_28_x86_64", "libonnxruntime.so"),
            ("linux", "aarch64") => ("manylinux_2_28_aarch64", "libonnxruntime.so"),
            ("macos", "aarch64") => ("macosx_14_0_arm64", "libonnxruntime.dylib"),
            ("windows", "x86_64") => ("win_amd64", "onnxruntime.dll"),
            ("windows", "aarch64") => ("win_arm64", "onnxruntime.dll"),
            _ => return Err(format!("there is no wheel for {os} on {arch}")),
        };
        Ok(Self { tag, library })
    }
}

fn fetch(out: &Path, platform: &Platform, library: &Path) -> Result<(), String> {
    let wheels = out.join("wheel");
    let unpacked = out.join("unpacked");
    // What an interrupted build left behind must not be taken for the whole.
    for dir in [&wheels, &unpacked] {
        let _ = fs::remove_dir_all(dir);
        fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    let download = ["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"];
    python(
        Command::new("python3")
            .args(download)
            .args(["--only-binary=:all:", "--retries", "2"])
            .args([
                "--implementation",
                "cp",
                "--python-version",
                "311",
                "--platform",
                platform.tag,
                "--requirement",
                REQUIREMENTS,
                "--dest",
            ])
            .arg(&wheels),
    )?;
    let wheel = find(&wheels, &|name| name.ends_with(".whl")).ok_or("pip brought no wheel")?;
    python(
        Command::new("python3")
            .args(["-m", "zipfile", "-e"])
            .arg(wheel)
            .arg(&unpacked),
    )?;
    let capi = unpacked.join("onnxruntime").join("capi");
    let stem = platform.library.split('.').next().unwrap_or(platform.library);
    let found = find(&capi, &|name| name.starts_with(&format!("{stem}."))).ok_or("the wheel holds no library")?;
    fs::rename(found, library).map_err(|e| format!("{}: {e}", library.display()))?;
    let _ = fs::remove_dir_all(wheels);
    let _ = fs::remove_dir_all(unpacked);
    Ok(())
}

fn python(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("python3 does not start: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(errors
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())
        .unwrap_or("python3 failed")
        .trim()
        .to_owned())
}

fn find(dir: &Path, fits: &dyn Fn(&str) -> bool) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?;
    entries
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.file_name().and_then(|n| n.to_str()).is_some_and(fits))
}

/// A hard link costs nothing; where there can be none, a copy. Never over a library that a running program has open.
fn place(library: &Path, target: &Path) -> io::Result<()> {
    let same_size = |path: &Path| fs::metadata(path).map(|m| m.len()).ok();
    if same_size(target).is_some() && same_size(target) == same_size(library) {
        return Ok(());
    }
    let _ = fs::remove_file(target);
    fs::hard_link(library, target).or_else(|_| fs::copy(library, target).map(drop))
}
