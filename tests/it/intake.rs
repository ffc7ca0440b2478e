//! From a directory to settled files: half-written copies, volumes that swap, links that leave, floods.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use dethrone::intake::scan::{Contents, Refused, VersionFile, scan, scan_model};
use dethrone::intake::settle::{Look, Settler};
use dethrone::intake::store::{IntakeError, Store, Stored, Unit};
use dethrone::intake::watch::{Hints, Watch};
use tempfile::TempDir;

const MAX: u64 = 1 << 20;
const SETTLE_MS: u64 = 500;

/// Stands in for the walk over the ONNX file: a line `external <name>` names external data.
fn external(bytes: &[u8]) -> Result<Vec<String>, String> {
    if bytes.starts_with(b"<html") {
        return Err("is an HTML page".into());
    }
    let text = String::from_utf8_lossy(bytes);
    Ok(text
        .lines()
        .filter_map(|l| l.strip_prefix("external "))
        .map(str::to_owned)
        .collect())
}

struct Place {
    folder: TempDir,
    settler: Settler,
    store: Store,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("models/elec2")).unwrap();
        let store = Store::open(&folder.path().join("state"), MAX).unwrap();
        let settler = Settler::new(SETTLE_MS);
        Self { folder, settler, store }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("models")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root().join("elec2").join(name)
    }

    fn write(&self, name: &str, bytes: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), bytes).unwrap();
    }

    fn contents(&self) -> Contents {
        let model = scan_model(&self.root(), "elec2", MAX).unwrap().unwrap();
        model.contents.unwrap()
    }

    fn names(&self) -> Vec<String> {
        self.contents().versions.into_iter().map(|v| v.name).collect()
    }

    fn version(&self, name: &str) -> VersionFile {
        self.contents().versions.into_iter().find(|v| v.name == name).unwrap()
    }

    fn look(&mut self, name: &str, now_ms: i64) -> Look {
        let version = self.version(name);
        self.settler.look(&version, now_ms, &external)
    }

    /// What the store makes of a version that has stood still.
    fn take(&mut self, name: &str) -> Result<Stored, IntakeError> {
        let version = self.version(name);
        let mut settler = Settler::new(0);
        let unit = ready(settler.look(&version, 0, &external));
        self.store.put(&unit, &external)
    }

    fn refusal(&self, name: &str) -> String {
        let refused = self.contents().refused;
        let found: Vec<&Refused> = refused.iter().filter(|r| r.name == name).collect();
        assert_eq!(found.len(), 1, "{name} in {refused:?}");
        found[0].reason.clone()
    }
}

fn ready(look: Look) -> Unit {
    match look {
        Look::Ready(unit) => unit,
        other => panic!("{other:?}"),
    }
}

fn waiting(look: &Look) -> bool {
    matches!(look, Look::Waiting(..))
}

#[test]
fn every_documented_layout_is_a_version_and_nothing_else_is() {
    let place = Place::new();
    for name in [
        "e01.onnx",
        "e01.onnx.data",
        "e01.toml",
        "model.toml",
        "model.onnx",
        "config.pbtxt",
        "1/model.onnx",
        "2/model.onnx/model.onnx",
        "empty/readme.txt",
        ".hidden.onnx",
        "..2026/x.onnx",
        ".git/model.onnx",
        "notes.txt",
        "e02.onnx.part",
    ] {
        place.write(name, "bytes");
    }
    let contents = place.contents();
    assert_eq!(place.names(), ["1", "2", "e01", "model"]);
    assert!(contents.has_config_pbtxt && contents.refused.is_empty(), "{contents:?}");
    assert_eq!(contents.settings, Some(place.path("model.toml")));
    assert_eq!(place.version("e01").settings, Some(place.path("e01.toml")));
    assert_eq!(place.version("model").settings, None, "model.toml is the model's");
    assert_eq!(place.version("2").path, place.path("2/model.onnx/model.onnx"));
}

#[test]
fn models_are_directories_with_plain_names() {
    let place = Place::new();
    for name in ["stats", "bad name", ".hidden", "fine-1.0@x"] {
        fs::create_dir(place.root().join(name)).unwrap();
    }
    fs::write(place.root().join("lost.onnx"), "bytes").unwrap();
    fs::write(place.root().join("README"), "text").unwrap();
    symlink("/etc", place.root().join("outside")).unwrap();
    let found = scan(&place.root(), MAX).unwrap();
    let models: Vec<&str> = found.models.iter().map(|m| m.name.as_str()).collect();
    let refused: Vec<&str> = found.refused.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(models, ["elec2", "fine-1.0@x"]);
    assert_eq!(refused, ["bad name", "lost.onnx", "outside", "stats"]);
    for name in ["stats", "../models/elec2", "..", "", "none", "outside"] {
        assert!(scan_model(&place.root(), name, MAX).unwrap().is_none(), "{name:?}");
    }
}

#[test]
fn what_cannot_be_a_version_is_refused_by_name_with_a_remedy() {
    let place = Place::new();
    let long = "x".repeat(150);
    for name in [
        "a b.onnx",
        "line\nfeed.onnx",
        "ünï.onnx",
        &format!("{long}.onnx"),
        "same.onnx",
        "same/model.onnx",
    ] {
        place.write(name, "bytes");
    }
    let not_text = std::ffi::OsStr::from_bytes(b"\xff.onnx");
    fs::write(place.root().join("elec2").join(not_text), "bytes").unwrap();
    fs::write(place.path("large.onnx"), vec![0; usize::try_from(MAX).unwrap() + 1]).unwrap();
    let fifo = std::process::Command::new("mkfifo")
        .arg(place.path("pipe.onnx"))
        .status()
        .unwrap();
    assert!(fifo.success());
    symlink("/dev/zero", place.path("device.onnx")).unwrap();
    symlink("nowhere.onnx", place.path("dangling.onnx")).unwrap();
    let outside = place.folder.path().join("outside.onnx");
    fs::write(&outside, "secret").unwrap();
    symlink(&outside, place.path("link.onnx")).unwrap();
    symlink("../../outside.onnx", place.path("relative.onnx")).unwrap();
    symlink(place.folder.path(), place.path("folder")).unwrap();
    fs::create_dir(place.folder.path().join("versions")).unwrap();
    fs::write(place.folder.path().join("versions/model.onnx"), "secret").unwrap();
    symlink(place.folder.path().join("versions"), place.path("linked-folder")).unwrap();
    for (name, remedy) in [
        ("a b.onnx", "rename it"),
        ("line\\nfeed.onnx", "rename it"),
        ("ünï.onnx", "rename it"),
        ("large.onnx", "max_model_bytes"),
        ("pipe.onnx", "not a regular file"),
        ("device.onnx", "leaves the directory"),
        ("dangling.onnx", "check where it links to"),
        ("link.onnx", "--local-dir"),
        ("relative.onnx", "leaves the directory"),
        ("linked-folder", "leaves the directory"),
    ] {
        assert!(place.refusal(name).contains(remedy), "{name}: {}", place.refusal(name));
    }
    assert_eq!(
        place.names(),
        ["same"],
        "the folder of the same name is refused, and so is the long name"
    );
    assert_eq!(place.contents().refused.len(), 13);
}

#[test]
fn a_half_written_file_is_no_candidate_until_it_stands_still() {
    let mut place = Place::new();
    place.write("e01.onnx", "half");
    assert!(waiting(&place.look("e01", 0)));
    assert!(waiting(&place.look("e01", 499)));
    place.write("e01.onnx", "half and half");
    assert!(waiting(&place.look("e01", 500)), "it grew: the time starts again");
    assert!(waiting(&place.look("e01", 999)));
    let unit = ready(place.look("e01", 1_000));
    assert_eq!(place.look("e01", 2_000), Look::Unchanged);
    let stored = place.store.put(&unit, &external).unwrap();
    assert_eq!(fs::read(&stored.path).unwrap(), b"half and half");
    place.settler.forget(&place.path("e01.onnx"));
    assert_eq!(
        ready(place.look("e01", 2_001)),
        unit,
        "what the store could not take is handed out again"
    );
}

#[test]
fn a_file_that_keeps_growing_is_told_so_for_how_long() {
    let mut place = Place::new();
    let mut grown = String::new();
    for passed in (0..=10_000).step_by(400) {
        grown += "more";
        place.write("e01.onnx", &grown);
        assert_eq!(
            place.look("e01", passed),
            Look::Waiting("is still being written".into(), passed)
        );
    }
    assert_eq!(place.settler.patience_ms(), 10_000);
    ready(place.look("e01", 10_501));
    place.write("e01.onnx", "again");
    assert_eq!(
        place.look("e01", 10_600),
        Look::Waiting("is still being written".into(), 0)
    );
}

#[test]
fn a_file_written_again_in_place_with_the_same_size_is_looked_at_again() {
    let mut place = Place::new();
    place.write("e01.onnx", "aaaa");
    let _ = place.look("e01", 0);
    let first = ready(place.look("e01", 500));
    let first = place.store.put(&first, &external).unwrap();
    // Some clocks of file systems tick in milliseconds: write until the state differs.
    let deadline = Instant::now() + Duration::from_secs(10);
    while place.look("e01", 600) == Look::Unchanged {
        assert!(Instant::now() < deadline);
        place.write("e01.onnx", "bbbb");
    }
    let second = ready(place.look("e01", 1_200));
    assert_ne!(place.store.put(&second, &external).unwrap().digest, first.digest);
}

#[test]
fn a_copy_that_keeps_the_old_time_stamp_is_looked_at_again() {
    let mut place = Place::new();
    place.write("e01.onnx", "aaaa");
    let stamp = fs::metadata(place.path("e01.onnx")).unwrap().modified().unwrap();
    let _ = place.look("e01", 0);
    ready(place.look("e01", 500));
    let deadline = Instant::now() + Duration::from_secs(10);
    while place.look("e01", 600) == Look::Unchanged {
        assert!(Instant::now() < deadline);
        place.write("e01.onnx", "bbbb");
        fs::File::open(place.path("e01.onnx"))
            .unwrap()
            .set_modified(stamp)
            .unwrap();
    }
    ready(place.look("e01", 1_200));
}

#[test]
fn a_rename_is_settled_at_once_and_a_later_write_is_not() {
    let mut place = Place::new();
    let staged = place.folder.path().join("staged");
    fs::write(&staged, "whole").unwrap();
    fs::rename(&staged, place.path("e01.onnx")).unwrap();
    place.settler.renamed(&place.path("e01.onnx"));
    ready(place.look("e01", 0));
    place.write("e01.onnx", "now written in place");
    assert!(waiting(&place.look("e01", 1)));

    let folder = place.folder.path().join("staged-folder");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("model.onnx"), "external weights").unwrap();
    fs::write(folder.join("weights"), "w").unwrap();
    fs::rename(&folder, place.path("7")).unwrap();
    place.settler.renamed(&place.path("7"));
    assert_eq!(
        ready(place.look("7", 2)).external.len(),
        1,
        "a folder that was moved in is whole, with its parts"
    );
}

#[test]
fn a_file_that_lay_there_long_before_the_start_needs_no_waiting() {
    let mut place = Place::new();
    place.write("e01.onnx", "old");
    let soon = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis();
    let later = i64::try_from(soon).unwrap() + 3_600_000;
    ready(place.look("e01", later));
}

#[test]
fn the_same_bytes_are_stored_once_under_any_name() {
    let mut place = Place::new();
    place.write("e01.onnx", "bytes");
    place.write("2/model.onnx", "bytes");
    let (one, two) = (place.take("e01").unwrap(), place.take("2").unwrap());
    assert_eq!(one, two);
    assert_eq!(
        one.digest,
        "sha256:277089d91c0bdf4f2e6862ba7e4a07605119431f5d13f726dd352b06f1b206a9"
    );
    assert_eq!((one.bytes, fs::read(&one.path).unwrap().as_slice()), (5, &b"bytes"[..]));
    place.store.verify(&one.digest).unwrap();
    assert_eq!(place.store.path(&one.digest), Some(one.path.clone()));
    let left = fs::read_dir(place.folder.path().join("state/blobs/tmp"))
        .unwrap()
        .count();
    assert_eq!(left, 0, "no half-made copies stay");
}

#[test]
fn new_bytes_under_an_old_name_leave_the_stored_ones_alone() {
    let mut place = Place::new();
    place.write("e01.onnx", "old");
    let old = place.take("e01").unwrap();
    place.write("e01.onnx", "new");
    let new = place.take("e01").unwrap();
    assert_ne!(old.digest, new.digest);
    assert_eq!(fs::read(&old.path).unwrap(), b"old");
    fs::remove_file(place.path("e01.onnx")).unwrap();
    assert!(place.names().is_empty());
    place.settler.prune();
    assert_eq!(fs::read(&new.path).unwrap(), b"new");
}

#[test]
fn a_directory_that_cannot_be_read_is_told_apart_from_an_empty_one() {
    let place = Place::new();
    fs::remove_dir(place.root().join("elec2")).unwrap();
    assert!(scan(&place.root(), MAX).unwrap().models.is_empty());
    fs::remove_dir(place.root()).unwrap();
    let error = scan(&place.root(), MAX).unwrap_err().to_string();
    assert!(error.contains("stays"), "{error}");
    assert!(scan_model(&place.root(), "elec2", MAX).is_err());
}

#[test]
fn a_kubernetes_volume_swaps_all_files_by_one_rename() {
    let mut place = Place::new();
    let publish = |place: &Place, stamp: &str, bytes: &str| {
        place.write(&format!("..{stamp}/e01.onnx"), bytes);
        let _ = fs::remove_file(place.path("..data_tmp"));
        symlink(format!("..{stamp}"), place.path("..data_tmp")).unwrap();
        fs::rename(place.path("..data_tmp"), place.path("..data")).unwrap();
    };
    publish(&place, "2026_01", "one");
    symlink("..data/e01.onnx", place.path("e01.onnx")).unwrap();
    assert_eq!(place.names(), ["e01"], "neither ..data nor its target is a version");
    let _ = place.look("e01", 0);
    let unit = ready(place.look("e01", 500));
    let one = place.store.put(&unit, &external).unwrap();
    publish(&place, "2026_02", "two");
    assert!(waiting(&place.look("e01", 600)));
    let unit = ready(place.look("e01", 1_100));
    let two = place.store.put(&unit, &external).unwrap();
    assert_eq!(fs::read(one.path).unwrap(), b"one");
    assert_eq!(fs::read(two.path).unwrap(), b"two");
}

#[test]
fn the_root_and_a_model_may_be_symlinks_as_synced_volumes_make_them() {
    let place = Place::new();
    place.write("e01.onnx", "bytes");
    let root = place.folder.path().join("current");
    symlink("models", &root).unwrap();
    symlink("elec2", place.root().join("twin")).unwrap();
    let found = scan(&root, MAX).unwrap();
    let versions: Vec<usize> = found
        .models
        .iter()
        .map(|m| m.contents.as_ref().unwrap().versions.len())
        .collect();
    assert_eq!(versions, [1, 1]);
}

#[test]
fn external_data_belongs_to_the_version_and_both_parts_are_waited_for() {
    let mut place = Place::new();
    place.write("e01.onnx", "external e01.onnx.data\n");
    let _ = place.look("e01", 0);
    let Look::Lacking(reason, _) = place.look("e01", 500) else {
        panic!("ready without its weights");
    };
    assert_eq!(
        reason,
        "waits for its external data e01.onnx.data: copy that file beside it"
    );
    place.write("e01.onnx.data", "weights");
    assert!(waiting(&place.look("e01", 600)));
    let unit = ready(place.look("e01", 1_100));
    let first = place.store.put(&unit, &external).unwrap();
    assert_eq!(
        fs::read(first.path.with_file_name("e01.onnx.data")).unwrap(),
        b"weights"
    );
    assert_eq!(first.bytes, 30);
    place.store.verify(&first.digest).unwrap();

    place.write("e01.onnx.data", "other weights");
    assert!(waiting(&place.look("e01", 1_200)));
    let unit = ready(place.look("e01", 1_700));
    let second = place.store.put(&unit, &external).unwrap();
    assert_ne!(first.digest, second.digest, "the weights are part of what a version is");

    let derived = place
        .store
        .put_derived(b"external e01.onnx.data\ncut", &second.digest)
        .unwrap();
    assert_eq!(
        fs::read(derived.path.with_file_name("e01.onnx.data")).unwrap(),
        b"other weights"
    );
    place.store.verify(&derived.digest).unwrap();
}

#[test]
fn hostile_external_names_and_links_are_refused_and_nothing_outside_is_read() {
    let mut place = Place::new();
    fs::write(place.folder.path().join("models/secret"), "secret").unwrap();
    let absolute = format!("external {}", place.folder.path().join("models/secret").display());
    for name in [
        "external ../secret",
        "external ..",
        "external w\u{202e}",
        &absolute,
        "external a/b",
        "external .",
        "external model.onnx",
        "external ",
    ] {
        place.write("e01.onnx", name);
        let error = place.take("e01").unwrap_err();
        assert!(
            matches!(&error, IntakeError::Refused(r) if r.contains("not a plain file name")),
            "{name}: {error}"
        );
    }
    place.write("e01.onnx", "external w");
    symlink("../secret", place.path("w")).unwrap();
    assert!(
        place
            .take("e01")
            .unwrap_err()
            .to_string()
            .contains("leaves the directory")
    );
    fs::remove_file(place.path("w")).unwrap();
    fs::hard_link(place.root().join("secret"), place.path("w")).unwrap();
    assert!(place.take("e01").unwrap_err().to_string().contains("hard link"));
    fs::remove_file(place.path("w")).unwrap();
    fs::create_dir(place.path("w")).unwrap();
    assert!(
        place
            .take("e01")
            .unwrap_err()
            .to_string()
            .contains("not a regular file")
    );
    place.write("e02.onnx", "plain");
    fs::hard_link(place.path("e02.onnx"), place.path("e03.onnx")).unwrap();
    assert!(place.take("e03").is_ok(), "a lone file is copied: its links do no harm");
}

#[test]
fn a_folder_exchanged_for_a_link_while_it_is_opened_gives_nothing_away() {
    let place = Place::new();
    let outside = place.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("model.onnx"), "secret").unwrap();
    place.write("v/model.onnx", "plain");
    let version = place.version("v");
    symlink(&outside, place.path(".link")).unwrap();
    let (folder, link, aside) = (place.path("v"), place.path(".link"), place.path(".aside"));
    let done = std::sync::atomic::AtomicBool::new(false);
    let mut plain = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                fs::rename(&folder, &aside).unwrap();
                fs::rename(&link, &folder).unwrap();
                fs::rename(&folder, &link).unwrap();
                fs::rename(&aside, &folder).unwrap();
            }
        });
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut settler = Settler::new(0);
        let mut secrets = 0;
        for _ in 0..20_000 {
            let counted = std::cell::Cell::new((0, 0));
            settler.forget(&version.path);
            let _ = settler.look(&version, 0, &|bytes| {
                let (plain, secret) = counted.get();
                counted.set((
                    plain + i32::from(bytes == b"plain"),
                    secret + i32::from(bytes == b"secret"),
                ));
                Ok(Vec::new())
            });
            plain += counted.get().0;
            secrets += counted.get().1;
            if Instant::now() > deadline {
                break;
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        assert_eq!(secrets, 0);
    });
    assert!(plain > 0, "the file itself was read now and then");
}

#[test]
fn debris_and_oversize_are_refused_by_the_store() {
    let mut place = Place::new();
    place.write("empty.onnx", "");
    place.write("page.onnx", "<html><body>404</body></html>");
    place.write("big.onnx", "external weights");
    fs::write(place.path("weights"), vec![0; usize::try_from(MAX).unwrap()]).unwrap();
    for (name, expected) in [
        ("empty", "is empty (a copy that has not finished?)"),
        ("page", "is an HTML page"),
        ("big", "larger than max_model_bytes"),
    ] {
        let error = place.take(name).unwrap_err();
        assert!(
            matches!(&error, IntakeError::Refused(r) if r.contains(expected)),
            "{name}: {error:?}"
        );
    }
    let unit = Unit {
        name: "gone".into(),
        root: fs::canonicalize(place.path("")).unwrap(),
        path: place.path("gone.onnx"),
        external: Vec::new(),
    };
    assert!(matches!(
        place.store.put(&unit, &external),
        Err(IntakeError::Changed(_))
    ));
}

#[test]
fn a_damaged_copy_is_found_and_a_digest_is_never_a_path() {
    let mut place = Place::new();
    place.write("e01.onnx", "bytes");
    let stored = place.take("e01").unwrap();
    let mut permissions = fs::metadata(&stored.path).unwrap().permissions();
    #[expect(clippy::permissions_set_readonly_false, reason = "the test damages its own file")]
    permissions.set_readonly(false);
    fs::set_permissions(&stored.path, permissions).unwrap();
    fs::write(&stored.path, "bytez").unwrap();
    assert!(matches!(
        place.store.verify(&stored.digest),
        Err(IntakeError::Damaged(_))
    ));
    for digest in [
        "",
        "sha256:",
        "sha256:../../..",
        "sha256:00",
        &"sha256:".replace("sha256:", "e01"),
    ] {
        assert!(
            place.store.path(digest).is_none() && place.store.verify(digest).is_err(),
            "{digest}"
        );
    }
}

#[test]
fn a_restart_clears_what_was_half_made() {
    let place = Place::new();
    let half = place.folder.path().join("state/blobs/tmp/0");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("model.onnx"), "half").unwrap();
    Store::open(&place.folder.path().join("state"), MAX).unwrap();
    assert!(!half.exists());
}

#[test]
fn a_thousand_files_dropped_at_once_are_all_found() {
    let mut place = Place::new();
    for i in 0..1_000 {
        place.write(&format!("v{i:04}.onnx"), &i.to_string());
    }
    let versions = place.contents().versions;
    assert_eq!(versions.len(), 1_000);
    for version in &versions {
        assert!(waiting(&place.settler.look(version, 0, &external)));
    }
    let ready = |version| matches!(place.settler.look(version, 500, &external), Look::Ready(_));
    assert_eq!(versions.iter().map(ready).filter(|is| *is).count(), 1_000);
}

/// Takes hints until `found` says so; fails after ten seconds.
fn until(watch: &Watch, what: &str, mut found: impl FnMut(&Hints) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !found(&watch.wait(Duration::from_millis(200))) {
        assert!(Instant::now() < deadline, "{what}");
    }
}

const HOUR: Duration = Duration::from_secs(3_600);

#[test]
fn any_event_names_its_model_and_a_rename_its_path() {
    let place = Place::new();
    let watch = Watch::start(place.root(), HOUR).unwrap();
    until(&watch, "the first look is at everything", |hints| hints.all);
    place.write("e01.onnx", "bytes");
    until(&watch, "a write", |hints| hints.models.contains("elec2"));
    let staged = place.folder.path().join("staged");
    fs::write(&staged, "whole").unwrap();
    fs::rename(&staged, place.path("e02.onnx")).unwrap();
    until(&watch, "a rename", |hints| {
        hints.renamed.contains(&place.path("e02.onnx"))
    });
    fs::remove_file(place.path("e02.onnx")).unwrap();
    until(&watch, "a removal", |hints| hints.models.contains("elec2"));
}

#[test]
fn a_relative_root_gives_hints_by_the_same_names_as_a_scan() {
    let place = Place::new();
    let up: PathBuf = std::env::current_dir()
        .unwrap()
        .components()
        .skip(1)
        .map(|_| "..")
        .collect();
    let root = up.join(place.root().strip_prefix("/").unwrap());
    let watch = Watch::start(root.clone(), HOUR).unwrap();
    until(&watch, "the first look", |hints| hints.all);
    let staged = place.folder.path().join("staged");
    fs::write(&staged, "whole").unwrap();
    fs::rename(&staged, place.path("e01.onnx")).unwrap();
    let scanned = scan_model(&root, "elec2", MAX)
        .unwrap()
        .unwrap()
        .contents
        .unwrap()
        .versions[0]
        .path
        .clone();
    until(&watch, "a rename", |hints| {
        hints.models.contains("elec2") && hints.renamed.contains(&scanned)
    });
}

#[test]
fn reading_the_directory_gives_no_hint() {
    let place = Place::new();
    place.write("e01.onnx", "bytes");
    let watch = Watch::start(place.root(), HOUR).unwrap();
    until(&watch, "the first look", |hints| hints.all);
    let _ = (place.contents(), fs::read(place.path("e01.onnx")));
    // A later event proves that earlier ones would have come.
    fs::create_dir(place.root().join("other")).unwrap();
    let mut models = BTreeSet::new();
    until(&watch, "the new directory", |hints| {
        models.extend(hints.models.clone());
        models.contains("other")
    });
    assert_eq!(models.into_iter().collect::<Vec<_>>(), ["other"]);
}

#[test]
fn a_flood_of_events_is_bounded_and_forgets_no_model() {
    let place = Place::new();
    let watch = Watch::start(place.root(), HOUR).unwrap();
    until(&watch, "the first look", |hints| hints.all);
    for i in 0..1_500 {
        fs::create_dir(place.root().join(format!("m{i}"))).unwrap();
    }
    let mut seen = BTreeSet::new();
    until(&watch, "every model or everything", |hints| {
        assert!(hints.models.len() <= 1_024);
        seen.extend(hints.models.clone());
        hints.all || seen.len() == 1_500
    });
}

#[test]
fn a_root_that_vanishes_and_comes_back_is_watched_again() {
    let place = Place::new();
    let watch = Watch::start(place.root(), HOUR).unwrap();
    until(&watch, "the first look", |hints| hints.all);
    for round in 0..3 {
        fs::remove_dir_all(place.root()).unwrap();
        if round == 0 {
            until(&watch, "the loss", |hints| hints.all);
        }
        // In later rounds it is back at once, often under the same inode.
        fs::create_dir_all(place.path("")).unwrap();
        let mut i = 0;
        until(&watch, "an event in the new directory", |hints| {
            i += 1;
            let staged = place.folder.path().join("staged");
            fs::write(&staged, "whole").unwrap();
            fs::rename(&staged, place.path(&format!("e{i}.onnx"))).unwrap();
            !hints.renamed.is_empty()
        });
    }
}

#[test]
fn a_root_symlink_that_moves_is_followed() {
    let place = Place::new();
    for stamp in ["one", "two"] {
        fs::create_dir_all(place.folder.path().join(stamp).join("elec2")).unwrap();
    }
    let root: &Path = &place.folder.path().join("current");
    symlink("one", root).unwrap();
    let watch = Watch::start(root.to_path_buf(), Duration::from_millis(20)).unwrap();
    until(&watch, "the first look", |hints| hints.all);
    symlink("two", place.folder.path().join("next")).unwrap();
    fs::rename(place.folder.path().join("next"), root).unwrap();
    let mut i = 0;
    until(&watch, "an event behind the moved link", |hints| {
        i += 1;
        let staged = place.folder.path().join("staged");
        fs::write(&staged, "whole").unwrap();
        fs::rename(&staged, root.join(format!("elec2/e{i}.onnx"))).unwrap();
        !hints.renamed.is_empty()
    });
}
