//! Where the clients are installed: a directory of Python packages per requirements file, under the target directory,
//! named by a hash of the file and of the interpreter. `pip install --target` needs neither a virtual environment nor
//! leave from the distribution.
//!
//! Always holds: a directory of that name is whole; tests that run at once, in threads or in processes, install it once.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use sha2::{Digest, Sha256};

/// For which there are wheels among the pinned ones.
const VERSIONS: [&str; 2] = ["3.11", "3.12"];

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join("clients");
    fs::create_dir_all(&root).unwrap();
    root
}

/// Where the interpreter puts what it has compiled, so that the source tree stays clean.
pub(super) fn cache() -> PathBuf {
    root().join("compiled")
}

/// An interpreter that the pinned wheels fit.
pub(super) fn python() -> &'static str {
    static FOUND: OnceLock<(&str, String)> = OnceLock::new();
    FOUND.get_or_init(find).0
}

fn find() -> (&'static str, String) {
    let ask = "import sys; print('%d.%d' % sys.version_info[:2])";
    for name in ["python3", "python3.11", "python3.12"] {
        let Ok(output) = Command::new(name).args(["-c", ask]).output() else {
            continue;
        };
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if VERSIONS.contains(&version.as_str()) {
            return (name, version);
        }
    }
    panic!(
        "the tests with real clients need Python {} with pip: put python3 on the path",
        VERSIONS.join(" or ")
    );
}

/// The packages of `tests/clients/requirements/<name>.txt`, installed.
pub(super) fn environment(name: &str) -> PathBuf {
    let requirements = super::scripts().join(format!("requirements/{name}.txt"));
    let mut hash = Sha256::new();
    hash.update(fs::read(&requirements).unwrap());
    hash.update(python());
    let tag: String = hash
        .finalize()
        .iter()
        .take(6)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let root = root();
    let place = root.join(format!("{name}-{tag}"));
    // Held until the end of this function: others wait, then find it made.
    let lock = File::create(root.join(format!("{name}.lock"))).unwrap();
    lock.lock().unwrap();
    if !place.is_dir() {
        let part = root.join(format!("{name}.part"));
        // What an interrupted run left behind must not be taken for the whole.
        let _ = fs::remove_dir_all(&part);
        install(name, &requirements, &part);
        fs::rename(part, &place).unwrap();
    }
    place
}

fn install(name: &str, requirements: &Path, target: &Path) {
    let options = [
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
        "--retries",
        "2",
    ];
    let output = Command::new(python())
        .args(["-m", "pip"])
        .args(options)
        .args([
            "--require-hashes",
            "--no-deps",
            "--only-binary=:all:",
            "--no-compile",
            "--target",
        ])
        .arg(target)
        .arg("--requirement")
        .arg(requirements)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "pip did not install the packages of {}, with which the client {name} is tested: give it a way to the Python \
         package index (its own settings and proxies count), or run the other tests with --skip clients. pip said: {}",
        requirements.display(),
        String::from_utf8_lossy(&output.stderr)
    );
}
