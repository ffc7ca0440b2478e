//! How the champion runs: where, in what company, for how long, and what the settings make of it.

use serde_json::{Value, json};

use crate::support::{Gateway, Site, data, elec2_row, gateway, onnx, right_answers, shipped, until};

const SLOW: &str = "interface = \"tensors\"\ntask = \"regression\"\nmetric = \"squared_error\"\nbound = 1.0\n";

fn execution(gateway: &Gateway, model: &str, version: &str) -> Value {
    gateway.version(model, version)["execution"].clone()
}

/// A gateway of `settings` with one shipped model and `[execution]`.
fn site(settings: &str, execution: &str) -> Site {
    let site = Site::new(settings);
    site.model_toml("elec2", &format!("champion = \"e05_forest\"\n[execution]\n{execution}"))
        .drop_file("elec2", "e05_forest", &shipped("e05_forest"));
    site
}

#[test]
fn what_was_measured_and_chosen_is_shown_of_the_versions_that_run_here() {
    let gateway = gateway();
    let shown = execution(&gateway, "elec2", "e01_logreg");
    assert_eq!((&shown["mode"], &shown["sharing"]), (&json!("inline"), &json!("none")));
    assert!(
        shown["sessions"].as_u64().unwrap() >= 1 && shown["max_batch"] == 64,
        "{shown}"
    );
    assert!(shown["run_us_p50"].as_f64().unwrap() > 0.0, "{shown}");
    assert!(shown["run_us_p99"].as_f64() >= shown["run_us_p50"].as_f64(), "{shown}");
    assert_eq!(
        (&shown["threads"], &shown["optimization"], &shown["providers"]),
        (&json!(1), &json!("all"), &json!(["cpu"]))
    );
}

#[test]
fn on_threads_of_its_own_a_version_answers_each_request_of_a_crowd_with_its_own_rows() {
    let site = site("workers = 2\n", "mode = \"threads\"\nsessions = 1\nmax_batch = 16\n");
    let gateway = site.start().ready();
    assert_eq!(execution(&gateway, "elec2", "e05_forest")["mode"], "batch");
    let right = right_answers();
    std::thread::scope(|scope| {
        for start in 0..6 {
            let (gateway, right) = (&gateway, &right);
            scope.spawn(move || {
                for at in 0..20 {
                    let rows: Vec<_> = (0..=start)
                        .map(|k| &right[(start * 5 + at * 3 + k) % right.len()])
                        .collect();
                    let instances: Vec<&Value> = rows.iter().map(|(row, _)| row).collect();
                    let body = json!({"model": "elec2", "instances": instances, "shadow": false});
                    let (status, answer) = gateway.predict(&body);
                    assert_eq!(status, 200, "{answer}");
                    for (given, (_, right)) in answer["predictions"].as_array().unwrap().iter().zip(&rows) {
                        let (given, right) = (given["score"].as_f64().unwrap(), right["e05_forest"].as_f64().unwrap());
                        assert!((given - right).abs() < 1e-6, "{given} is not {right}");
                    }
                }
            });
        }
    });
}

#[test]
fn an_edit_of_execution_loads_the_champion_anew_and_no_request_notices() {
    let site = site("workers = 2\nsettle_ms = 50\npoll = \"100ms\"\n", "mode = \"inline\"\n");
    let gateway = site.start().ready();
    assert_eq!(execution(&gateway, "elec2", "e05_forest")["mode"], "inline");
    let edited = "mode = \"threads\"\nmax_batch = 1\nsessions = 3\noptimization = \"basic\"\nthreads = 2\n";
    site.model_toml("elec2", &format!("champion = \"e05_forest\"\n[execution]\n{edited}"));
    let body = json!({"model": "elec2", "instances": [elec2_row()]});
    let before = gateway.predict(&body).1["predictions"][0]["score"].clone();
    let shown = until("the new execution", || {
        let (status, answer) = gateway.predict(&body);
        assert_eq!((status, &answer["predictions"][0]["score"]), (200, &before), "{answer}");
        Some(execution(&gateway, "elec2", "e05_forest")).filter(|shown| shown["mode"] == "threads")
    });
    let expected = [
        ("max_batch", json!(1)),
        ("sessions", json!(3)),
        ("optimization", json!("basic")),
        ("threads", json!(2)),
    ];
    for (key, value) in expected {
        assert_eq!(shown[key], value, "{key}");
    }
    assert_eq!(gateway.view("elec2")["champion"]["epoch"], 1, "nobody was swapped");
}

#[test]
fn a_provider_that_the_library_lacks_is_refused_by_name_and_the_settings_of_before_stay() {
    let site = site("workers = 1\nsettle_ms = 50\npoll = \"100ms\"\n", "mode = \"inline\"\n");
    let gateway = site.start().ready();
    site.model_toml(
        "elec2",
        "champion = \"e05_forest\"\nexecution.providers = [\"cuda\", \"cpu\"]\n",
    );
    let said = until("the refusal", || {
        gateway.view("elec2")["settings_error"].as_str().map(str::to_owned)
    });
    assert!(said.contains("has no provider \"cuda\"; it has cpu"), "{said}");
    assert_eq!(execution(&gateway, "elec2", "e05_forest")["mode"], "inline");
    assert_eq!(gateway.predict(&json!({"instances": [elec2_row()]})).0, 200);
}

/// Memory that a process has for itself, shared pages by its share.
fn memory(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|line| line.starts_with("Pss:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn four_workers_of_a_large_model_hold_one_copy_of_its_weights_and_answer_as_one_session_does() {
    const WIDTH: usize = 1024;
    const LAYERS: usize = 32;
    let file = onnx::layers(LAYERS, WIDTH, 7);
    let copy = (LAYERS * WIDTH * WIDTH * 4) as f64;
    let run = |settings: &str, execution: &str, large: bool| {
        let site = Site::new(settings);
        site.model_toml("m", &format!("interface = \"tensors\"\n[execution]\n{execution}"));
        match large {
            true => site.drop_bytes("m", "v", &file),
            false => site.drop_bytes("m", "v", &onnx::layers(1, WIDTH / 8, 7)),
        };
        let gateway = site.start().ready();
        let width = if large { WIDTH } else { WIDTH / 8 };
        let row: Vec<f64> = [0.1, 0.7, -0.4, 0.2].into_iter().cycle().take(width).collect();
        let body = json!({"model": "m", "inputs": {"x": [row]}});
        let answers: Vec<Value> = std::thread::scope(|scope| {
            let asked: Vec<_> = (0..8).map(|_| scope.spawn(|| gateway.predict(&body))).collect();
            let answered = asked.into_iter().map(|one| one.join().unwrap());
            answered
                .map(|(status, answer)| {
                    assert_eq!(status, 200, "{answer}");
                    answer["outputs"].clone()
                })
                .collect()
        });
        assert!(answers.iter().all(|answer| *answer == answers[0]));
        (memory(gateway.pid()) as f64, execution_of(&gateway), answers[0].clone())
    };
    let (nothing, ..) = run("workers = 4\n", "max_batch = 1\n", false);
    let (four, shown, answers) = run("workers = 4\n", "max_batch = 1\n", true);
    assert_eq!(
        (&shown["sessions"], &shown["sharing"]),
        (&json!(4), &json!("weights")),
        "{shown}"
    );
    let (.., one, alone) = run("workers = 1\n", "max_batch = 1\nsessions = 1\n", true);
    assert_eq!(answers, alone, "{one}");
    let copies = (four - nothing) / copy;
    assert!(copies <= 1.3, "four sessions hold {copies:.2} copies");
}

fn execution_of(gateway: &Gateway) -> Value {
    execution(gateway, "m", "v")
}

#[test]
fn a_request_without_a_deadline_has_that_of_the_settings() {
    let site = Site::new("workers = 1\ndefault_timeout = \"1ms\"\n");
    site.model_toml("slow", SLOW).drop_file("slow", "slow", &data("slow"));
    let gateway = site.start().ready();
    let (status, answer) = gateway.predict(&json!({"model": "slow", "inputs": {"x": [[0.5, 0.5, 0.5]]}}));
    assert_eq!((status, &answer["code"]), (504, &json!("deadline")), "{answer}");
}
