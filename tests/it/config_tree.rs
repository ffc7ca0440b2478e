//! The server's settings as one tree: what is in force and where it came from, all faults at once, and what a running
//! gateway takes on without a restart.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::client::{raw, request};
use crate::support::{gateway_with, until};

fn dethrone(directory: &std::path::Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dethrone"));
    command
        .arg("config")
        .args(arguments)
        .current_dir(directory)
        .env("DETHRONE_IDLE_TIMEOUT", "2m");
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn each_setting_in_force_is_shown_with_where_it_came_from() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(
        directory.path().join("dethrone.toml"),
        "\nbody_timeout = \"7s\"\nidle_timeout = \"9s\"\n[runner]\nmemory_bytes = \"1GiB\"\n",
    )
    .unwrap();
    let (code, out, err) = dethrone(
        directory.path(),
        &["--json", "--header-timeout", "3s", "--runner-cpu-timeout", "1s"],
    );
    assert_eq!(code, Some(0), "{err}");
    let settings: Value = serde_json::from_str(&out).unwrap();
    let of = |key: &str| {
        let all = settings["settings"].as_array().unwrap();
        let found = all
            .iter()
            .find(|setting| setting["key"] == key)
            .unwrap_or_else(|| panic!("no {key}"));
        (found["value"].clone(), found["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(of("header_timeout"), (json!("3s"), "--header-timeout".into()));
    assert_eq!(of("body_timeout"), (json!("7s"), "file, line 2".into()));
    assert_eq!(
        of("idle_timeout"),
        (json!("2m"), "DETHRONE_IDLE_TIMEOUT".into()),
        "a variable wins over the file"
    );
    assert_eq!(of("runner.memory_bytes"), (json!(1u64 << 30), "file, line 5".into()));
    assert_eq!(of("runner.cpu_timeout"), (json!("1s"), "--runner-cpu-timeout".into()));
    assert_eq!(of("write_timeout"), (json!("30s"), "default".into()));
    assert_eq!(of("metrics_listen"), (Value::Null, "default".into()));
    // What is printed gives the same settings, and all of them by the file.
    let (_, text, _) = dethrone(directory.path(), &[]);
    std::fs::write(directory.path().join("again.toml"), &text).unwrap();
    let (code, again, err) = dethrone(directory.path(), &["--json", "--config", "again.toml"]);
    assert_eq!(code, Some(0), "{err}");
    let (_, before, _) = dethrone(directory.path(), &["--json"]);
    let values = |text: &str| {
        let json: Value = serde_json::from_str(text).unwrap();
        json["settings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (s["key"].clone(), s["value"].clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(values(&again), values(&before));
}

#[test]
fn all_faults_of_file_flags_and_variables_are_told_at_once_with_their_lines_and_the_nearest_key() {
    let directory = tempfile::tempdir().unwrap();
    let file = "body_timout = \"7s\"\nmax_rows = 0\nadmin_listen = \"0.0.0.0:1\"\n[runner]\ncpu_timeout = 5\n";
    std::fs::write(directory.path().join("dethrone.toml"), file).unwrap();
    let (code, _, err) = dethrone(directory.path(), &["--workers", "0"]);
    assert_eq!(code, Some(78), "{err}");
    for says in [
        "line 1: body_timout: unknown key: did you mean \"body_timeout\"?",
        "line 2: max_rows",
        "line 3: admin_listen",
        "line 5: runner.cpu_timeout",
        "--workers",
    ] {
        assert!(err.contains(says), "{says} is not in {err}");
    }
}

#[test]
fn the_table_of_settings_in_the_documentation_is_the_programs_own() {
    let (code, printed, _) = dethrone(std::path::Path::new("."), &["--reference"]);
    let written =
        std::fs::read_to_string(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/settings.md")).unwrap();
    assert_eq!(code, Some(0));
    assert!(
        printed == written,
        "docs/settings.md is not what `dethrone config --reference` prints: write it anew"
    );
    // Every key that the program knows stands in it.
    let directory = tempfile::tempdir().unwrap();
    let (_, out, _) = dethrone(directory.path(), &["--json"]);
    let settings: Value = serde_json::from_str(&out).unwrap();
    for setting in settings["settings"].as_array().unwrap() {
        let key = format!("| `{}` |", setting["key"].as_str().unwrap());
        assert!(written.contains(&key), "{key}");
    }
}

#[test]
fn at_sighup_what_can_take_effect_does_what_cannot_is_named_and_faults_change_nothing() {
    let gateway = gateway_with("max_body_bytes = \"1MiB\"\n");
    let site = gateway.site();
    let ask = |bytes: usize| {
        raw(gateway.data, &request("POST", "/predict", "", &vec![b' '; bytes]))
            .unwrap()
            .status
    };
    assert_eq!(ask(4_000), 400);
    site.write_settings("max_body_bytes = \"2KiB\"\nmax_rows = 7\n");
    gateway.signal("HUP");
    until("the new limit", || (ask(4_000) == 413).then_some(()));
    until("what needs a restart", || {
        let log = site.log();
        (log.contains("max_body_bytes = 2048") && log.contains("need a restart") && log.contains("max_rows"))
            .then_some(())
    });
    site.write_settings("max_body_bytes = \"lots\"\nbody_timout = 1\n");
    gateway.signal("HUP");
    until("the faults", || {
        let log = site.log();
        (log.contains("those in force stay") && log.contains("did you mean") && log.contains("'lots'")).then_some(())
    });
    assert_eq!((ask(1_000), ask(4_000)), (400, 413));
    assert_eq!(gateway.stop(), Some(0));
}
