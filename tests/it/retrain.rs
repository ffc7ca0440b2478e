//! Rows leave to be learned from when it is time, a command is called with them, and what it makes has to win.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::support::client::post;
use super::support::{Gateway, Site, ask_ledger, elec2_row, shipped, stream, until};
use super::webhook::Listener;

const QUICK: &str = "settle_ms = 20\npoll = \"50ms\"\nrecorder_percent = 100\n";

fn told(gateway: &Gateway, model: &str) -> Value {
    gateway.admin(&format!("/api/models/{model}/retrainings"))
}

/// The newest retraining, once it is over and there are so many.
fn over(gateway: &Gateway, model: &str, count: usize) -> Value {
    until("a retraining is over", || {
        let told = told(gateway, model);
        let all = told["retrainings"].as_array()?.clone();
        (all.len() >= count && !all[0]["ended"].is_null()).then(|| all[0].clone())
    })
}

fn order(gateway: &Gateway, model: &str) -> (u16, Value) {
    let body = json!({"author": "ada", "reason": "the audit asks for it"});
    let answer = post(gateway.admin, &format!("/api/models/{model}/retrain"), &body);
    (answer.status, answer.json())
}

/// Orders one and waits for its end.
fn ordered(gateway: &Gateway, model: &str) -> Value {
    let (status, answer) = order(gateway, model);
    assert_eq!(status, 200, "{answer}");
    until("it is over", || {
        let told = told(gateway, model);
        let mut all = told["retrainings"].as_array()?.iter();
        let one = all.find(|one| one["n"] == answer["retraining"])?;
        (!one["ended"].is_null()).then(|| one.clone())
    })
}

/// Waits until so many labelled rows have closed, as far as retraining has seen.
fn closed(site: &Site, row: u64) {
    until("rows have closed", || {
        let closed: i64 = ask_ledger(site, "SELECT folded_row FROM cursors")?;
        (closed.cast_unsigned() >= row).then_some(())
    });
}

fn is_alive(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

#[test]
fn the_loop_closes_from_decay_over_export_and_command_to_a_promotion_by_evidence() {
    let listener = Listener::start(&[]);
    let site = Site::new(&format!(
        "{QUICK}retrain_commands = true\n[webhook]\nurl = \"http://{}/\"\nevents = [\"retrain\", \"promotion\"]\n",
        listener.address
    ));
    let script = site.models().parent().unwrap().join("re train.sh");
    // A trainer that knows the answer beforehand: the model for the world after its change.
    let text = "set -e\nls \"$1\"/day=*/part-*.parquet\ncd \"$DETHRONE_RETRAIN_DIRECTORY\"\n\
                printf '[lineage]\\nparent = \"%s\"\\ndata = \"%s rows\"\\n' \"$DETHRONE_RETRAIN_CHAMPION\" \"$3\" > again.toml\n\
                cp \"$2\" .again.part\nmv .again.part again.onnx\n";
    std::fs::write(&script, text).unwrap();
    let model = shipped("e06_flipped");
    let command = json!(["sh", script, "{path}", model, "{rows}"]);
    site.model_toml(
        "elec2",
        &format!(
            "[label]\nmaturity = \"40 rows\"\nhorizon = \"100000 rows\"\n\
             [policy]\nmin_labels = 50\ndwell = \"40 rows\"\ncooldown = \"1 row\"\nprobation = \"4000 rows\"\n\
             [monitor]\nbaseline_rows = 100\nwindow = \"80 rows\"\ncycle = \"1 row\"\n\
             [retrain]\nwhen = {{ decay = true }}\ncooldown = \"100000 rows\"\nmax_labels = 200\nto = \"what was seen\"\n\
             command = {command}\n"
        ),
    );
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    let rows = stream(4_000, 1_600);
    let world: Vec<(Value, u8)> = rows
        .iter()
        .enumerate()
        // From row 320 on everything is the other way round.
        .map(|(at, (row, label))| (row.clone(), if at < 320 { *label } else { 1 - label }))
        .collect();
    let mut ids = Vec::new();
    for rows in world[..800].chunks(40) {
        ids.extend(gateway.feed("elec2", rows));
        if told(&gateway, "elec2")["retrainings"] != json!([]) {
            break;
        }
    }
    let done = over(&gateway, "elec2", 1);
    assert_eq!(
        (&done["cause"], &done["state"]),
        (&json!("decay"), &json!("succeeded")),
        "{done}"
    );
    let alarm = done["causes"][0]["row"].as_u64().unwrap();
    assert!((321..800).contains(&alarm), "{done}");
    assert!(
        done["reason"]
            .as_str()
            .unwrap()
            .contains(&format!("raised at row {alarm}")),
        "{done}"
    );
    assert_eq!((&done["author"], &done["exit_code"]), (&json!("retrain"), &json!(0)));
    // More labels may come between the look at the last 200 and the export.
    assert!((200..800).contains(&done["rows"].as_u64().unwrap()), "{done}");
    let path = PathBuf::from(done["path"].as_str().unwrap());
    assert!(
        path.is_dir() && path.parent().unwrap().ends_with("what was seen/elec2"),
        "{done}"
    );
    assert!(
        std::fs::read_to_string(done["log"].as_str().unwrap())
            .unwrap()
            .contains(".parquet")
    );

    gateway.until_role("elec2", "again", "challenger");
    let lineage = gateway.version("elec2", "again")["lineage"].clone();
    assert_eq!(
        (&lineage["parent"], &lineage["data"]),
        (&json!("e01_logreg"), &json!(format!("{} rows", done["rows"]))),
        "{lineage}"
    );
    gateway.feed("elec2", &world[ids.len()..]);
    let promotion = until("the promotion", || {
        gateway
            .decisions("elec2")
            .into_iter()
            .find(|decision| decision["to"] == "again")
    });
    assert_eq!(
        (&promotion["kind"], &promotion["from"]),
        (&json!("promotion"), &json!("e01_logreg")),
        "{promotion}"
    );
    assert_eq!(promotion["author"], "judge", "{promotion}");
    // It is told once it is durable, and a moment later it is done.
    until("the new champion answers", || {
        let (_, answer) = gateway.predict(&json!({"model": "elec2", "instances": [elec2_row()]}));
        (answer["version"] == "again").then_some(())
    });

    // Told: the rows with their place and why, the command's end, and the promotion.
    let stages = until("all is told", || {
        let calls: Vec<Value> = listener.calls().iter().map(|call| call.json()).collect();
        let has_all = calls.iter().any(|call| call["data"]["to"] == "again") && calls.len() >= 4;
        has_all.then(|| {
            calls
                .into_iter()
                .filter(|call| call["type"] == "retrain")
                .collect::<Vec<_>>()
        })
    });
    assert_eq!(stages.len(), 2, "{stages:?}");
    for (told, stage) in stages.iter().zip(["exported", "ended"]) {
        let data = &told["data"];
        assert_eq!(
            (&data["stage"], &data["model"]),
            (&json!(stage), &json!("elec2")),
            "{told}"
        );
        assert_eq!(
            (&data["path"], &data["rows"], &data["reason"]),
            (&done["path"], &done["rows"], &done["reason"])
        );
    }
    // Counted, shown, and named when one of the rows is erased.
    let count = |series: &str| gateway.metric(&format!("dethrone_{series}"));
    assert_eq!(
        count("retrain_causes_total{model=\"elec2\",cause=\"decay\"}"),
        Some(1.0)
    );
    assert_eq!(
        count("retrainings_total{model=\"elec2\",outcome=\"succeeded\"}"),
        Some(1.0)
    );
    assert_eq!(gateway.view("elec2")["retrain"]["latest"]["n"], done["n"]);
    let first: i64 = until("the export is known", || {
        ask_ledger(&site, "SELECT first_row FROM exports")
    });
    let inside = &ids[usize::try_from(first).unwrap() - 1];
    let body = json!({"ids": [inside, ids[0]], "author": "ada", "reason": "asked"});
    let erased = post(gateway.admin, "/api/models/elec2/erase", &body).json();
    let exports = erased["exports"].as_array().unwrap();
    assert_eq!(exports.len(), 1, "{erased}");
    assert_eq!(
        (&exports[0]["path"], &exports[0]["export"]),
        (&done["path"], &done["export"]),
        "{erased}"
    );
    assert_eq!(
        (&exports[0]["rows"], &exports[0]["deleted"]),
        (&json!(1), &Value::Null),
        "{erased}"
    );
}

const RULES: &str = "[label]\nmaturity = \"45 rows\"\nhorizon = \"100000 rows\"\n[policy]\nmode = \"off\"\n\
                     [monitor]\nbaseline_rows = 40\nwindow = \"40 rows\"\ncycle = \"1 row\"\n";

/// Other settings, once they are in force.
fn set(site: &Site, gateway: &Gateway, retrain: &str, sign: impl Fn(&Value) -> bool) {
    site.model_toml("elec2", &format!("{RULES}[retrain]\n{retrain}\n"));
    until("the settings are in force", || {
        let now = gateway.view("elec2")["retrain"]["settings"].clone();
        sign(&now).then_some(())
    });
}

#[test]
fn each_cause_makes_it_time_no_sooner_than_the_cool_down_and_over_restarts_and_old_exports_go() {
    // Nobody is held up by a webhook that takes a call and never answers.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = hanging.local_addr().unwrap();
    let site = Site::new(&format!(
        "{QUICK}retrain_commands = true\n[webhook]\nurl = \"http://{address}/\"\n"
    ));
    site.model_toml("elec2", RULES);
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    let state = |done: &Value| done["state"].as_str().unwrap().to_owned();

    // Nothing to export; one class; and then rows, without a command.
    let (status, _) = gateway.predict(&json!({"model": "elec2", "instances": [elec2_row()]}));
    assert_eq!(status, 200);
    let empty = ordered(&gateway, "elec2");
    assert_eq!(state(&empty), "empty", "{empty}");
    assert!(empty["outcome"].as_str().unwrap().contains("nothing to export") && empty["author"] == "ada");
    assert!(
        !empty["deleted"].is_null() && !Path::new(empty["path"].as_str().unwrap()).exists(),
        "{empty}"
    );
    let rows = stream(20_000, 700);
    let ones: Vec<(Value, u8)> = rows[..40].iter().map(|(row, _)| (row.clone(), 1)).collect();
    let ids = gateway.feed("elec2", &ones);
    let one = ordered(&gateway, "elec2");
    assert_eq!(
        (state(&one).as_str(), &one["classes"]),
        ("one_class", &json!({"1": 40})),
        "{one}"
    );
    gateway.feed("elec2", &rows[40..120]);
    let plain = ordered(&gateway, "elec2");
    assert_eq!(
        (state(&plain).as_str(), &plain["rows"]),
        ("exported", &json!(120)),
        "{plain}"
    );

    // A command that fails is told with what it said; one export is kept.
    let failing = "command = [\"sh\", \"-c\", \"echo what went wrong >&2; exit 3\"]\nkeep = 1\n";
    set(&site, &gateway, failing, |now| now["keep"] == 1);
    let failed = ordered(&gateway, "elec2");
    assert_eq!(
        (state(&failed).as_str(), &failed["exit_code"]),
        ("failed", &json!(3)),
        "{failed}"
    );
    assert_eq!(
        std::fs::read_to_string(failed["log"].as_str().unwrap()).unwrap(),
        "what went wrong\n"
    );
    let all = until("old exports are deleted", || {
        let all = told(&gateway, "elec2")["retrainings"].as_array()?.clone();
        all[1..].iter().all(|one| !one["deleted"].is_null()).then_some(all)
    });
    assert!(all[0]["deleted"].is_null() && Path::new(failed["path"].as_str().unwrap()).is_dir());
    assert!(!Path::new(plain["path"].as_str().unwrap()).exists());
    let body = json!({"ids": [ids[0]], "author": "ada", "reason": "asked"});
    let erased = post(gateway.admin, "/api/models/elec2/erase", &body).json();
    let deleted = |path: &Value| {
        let mut exports = erased["exports"].as_array().unwrap().iter();
        exports
            .find(|export| export["path"] == *path)
            .map(|export| !export["deleted"].is_null())
    };
    assert_eq!(
        (deleted(&failed["path"]), deleted(&plain["path"]), deleted(&one["path"])),
        (Some(false), Some(true), Some(true)),
        "{erased}"
    );

    // Every hundred labels, and the count goes on after a kill.
    let n = told(&gateway, "elec2")["retrainings"].as_array().unwrap().len();
    let every = "when = { labels = 100 }\ncooldown = \"1 row\"\n";
    set(&site, &gateway, every, |now| now["when"]["labels"] == 100);
    gateway.feed("elec2", &rows[120..160]);
    let first = over(&gateway, "elec2", n + 1);
    assert_eq!(
        (&first["cause"], state(&first).as_str()),
        (&json!("labels"), "exported"),
        "{first}"
    );
    let to_row = first["causes"][0]["to_row"].as_u64().unwrap();
    gateway.feed("elec2", &rows[160..200]);
    closed(&site, 155);
    let counted = until("labels are counted", || {
        let labels = told(&gateway, "elec2")["now"]["labels"].clone();
        (labels["to_row"].as_u64()? >= 155).then_some(labels)
    });
    assert!(counted["counted"].as_u64().unwrap() <= 80, "{counted}");
    gateway.kill();
    let gateway = site.start().ready();
    until("labels are counted again", || {
        let labels = told(&gateway, "elec2")["now"]["labels"].clone();
        (labels == counted).then_some(())
    });
    assert_eq!(told(&gateway, "elec2")["retrainings"].as_array().unwrap().len(), n + 1);
    gateway.feed("elec2", &rows[200..300]);
    let second = over(&gateway, "elec2", n + 2);
    assert_eq!(second["causes"][0]["every"], 100, "{second}");
    assert!(
        second["causes"][0]["to_row"].as_u64().unwrap() >= to_row + 100,
        "{second}"
    );

    // Every second, but not within the cool-down, which counts from what the ledger has.
    set(
        &site,
        &gateway,
        "when = { schedule = \"* * * * * *\" }\ncooldown = \"1d\"\n",
        |now| now["cooldown"] == "1d",
    );
    until("times pass", || {
        gateway
            .metric("dethrone_retrain_held_total{model=\"elec2\",reason=\"cooldown\"}")
            .filter(|held| *held >= 2.0)
    });
    assert_eq!(told(&gateway, "elec2")["retrainings"].as_array().unwrap().len(), n + 2);
    assert!(
        told(&gateway, "elec2")["now"]["cooldown"]
            .as_str()
            .unwrap()
            .contains("ends at")
    );
    set(
        &site,
        &gateway,
        "when = { schedule = \"* * * * * *\" }\ncooldown = \"20 rows\"\n",
        |now| now["cooldown"] == "20 rows",
    );
    gateway.feed("elec2", &rows[300..340]);
    let scheduled = over(&gateway, "elec2", n + 3);
    assert_eq!(scheduled["cause"], "schedule", "{scheduled}");

    // An alarm of what comes in.
    set(
        &site,
        &gateway,
        "when = { drift = true }\ncooldown = \"1 row\"\n",
        |now| now["when"]["drift"] == true,
    );
    let shifted: Vec<(Value, u8)> = rows[340..500]
        .iter()
        .map(|(row, label)| {
            let mut row = row.clone();
            row["nswdemand"] = json!(row["nswdemand"].as_f64().unwrap() + 3.0);
            (row, *label)
        })
        .collect();
    gateway.feed("elec2", &shifted);
    until("drift", || {
        let told = told(&gateway, "elec2");
        let mut all = told["retrainings"].as_array()?.iter();
        let features = |one: &Value| {
            let features = one["causes"][0]["features"].as_array().cloned().unwrap_or_default();
            features.iter().any(|changed| changed["feature"] == "nswdemand")
        };
        all.any(|one| one["cause"] == "drift" && features(one)).then_some(())
    });
    // Bad settings change nothing, and say what is wrong.
    site.model_toml(
        "elec2",
        &format!("{RULES}[retrain]\nwhen = {{ schedule = \"0 25 * * *\" }}\n"),
    );
    until("the fault is shown", || {
        let fault = gateway.view("elec2")["settings_error"].clone();
        fault.as_str()?.contains("the hour '25'").then_some(())
    });
    assert_eq!(gateway.view("elec2")["retrain"]["settings"]["when"]["drift"], true);
    drop(hanging);
}

#[test]
fn a_loss_that_rises_slowly_is_forecast_to_cross_its_limit_and_rows_leave_before_it_does() {
    let site = Site::new(QUICK);
    site.model_toml(
        "elec2",
        "[label]\nmaturity = \"40 rows\"\nhorizon = \"100000 rows\"\n[policy]\nmode = \"off\"\n\
         [monitor]\nbaseline_rows = 40\nwindow = \"160 rows\"\ncycle = \"1 row\"\ndecay = 0.2\n\
         [retrain]\nwhen = { forecast = \"4000 rows\" }\n",
    );
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    let gateway = site.start().ready();
    let rows = stream(20_000, 2_000);
    // The champion's own words for labels, more and more of which are wrong.
    let said = |row: &Value| {
        let (status, answer) = gateway.predict(&json!({"model": "elec2", "instances": [row], "shadow": false}));
        assert_eq!(status, 200, "{answer}");
        u8::try_from(answer["predictions"][0]["label"].as_u64().unwrap()).unwrap()
    };
    let world: Vec<(Value, u8)> = rows
        .iter()
        .enumerate()
        .map(|(at, (row, _))| {
            // Evenly spread; one in seven at the end, so that the limit is still far however late somebody looks.
            let turned = at >= 300 && (at * 37) % 100 < 14 * (at - 300) / 1_700;
            (row.clone(), said(row) ^ u8::from(turned))
        })
        .collect();
    for rows in world.chunks(40) {
        gateway.feed("elec2", rows);
        if told(&gateway, "elec2")["retrainings"] != json!([]) {
            break;
        }
    }
    let done = over(&gateway, "elec2", 1);
    let cause = &done["causes"][0];
    assert_eq!(
        (&cause["cause"], &done["state"]),
        (&json!("forecast"), &json!("exported")),
        "{done}"
    );
    // It was told before it happened.
    assert!((1..=4_000).contains(&cause["rows"].as_u64().unwrap()), "{done}");
    assert!(
        cause["recent"].as_f64().unwrap() < cause["limit"].as_f64().unwrap(),
        "{done}"
    );
    assert!(
        done["reason"]
            .as_str()
            .unwrap()
            .contains("expected to cross its limit in"),
        "{done}"
    );
}

#[test]
fn a_command_that_never_ends_holds_nobody_up_and_is_interrupted_or_timed_out_with_all_it_started() {
    let mut site = Site::new(&format!("{QUICK}retrain_commands = true\n"));
    let pid = site.models().parent().unwrap().join("pid");
    let command = json!([
        "sh",
        "-c",
        "setsid sleep 600 & echo $! > \"$0.part\"; mv \"$0.part\" \"$0\"; yes",
        pid
    ]);
    let endless = |timeout: &str| format!("{RULES}[retrain]\ncommand = {command}\ntimeout = \"{timeout}\"\n");
    site.model_toml("elec2", &endless("1h"));
    site.drop_file("elec2", "e01_logreg", &shipped("e01_logreg"));
    site.model_toml("plain", "interface = \"tensors\"\n");
    site.drop_file("plain", "e02_tree", &shipped("e02_tree"));
    let started = |pid: &Path| {
        let number = until("the command runs", || std::fs::read_to_string(pid).ok());
        std::fs::remove_file(pid).unwrap();
        number.trim().to_owned()
    };
    let gateway = site.start().ready();
    gateway.feed("elec2", &stream(20_000, 80));
    assert_eq!(order(&gateway, "elec2").0, 200);
    let sleeper = started(&pid);
    let now = told(&gateway, "elec2");
    assert_eq!(now["retrainings"][0]["state"], "running", "{now}");
    // Of the same model no second one; of another it waits; and answers go on.
    let (status, refused) = order(&gateway, "elec2");
    assert_eq!(status, 409, "{refused}");
    until("the other model answers", || {
        let ready = super::support::client::get(gateway.data, "/v2/models/plain/ready");
        (ready.status == 200).then_some(())
    });
    let (status, answer) = order(&gateway, "plain");
    assert_eq!(status, 200, "{answer}");
    let (status, _) = gateway.predict(&json!({"model": "elec2", "instances": [elec2_row()]}));
    assert_eq!(status, 200);
    assert_eq!(told(&gateway, "plain")["retrainings"][0]["state"], "waiting");
    assert!(is_alive(&sleeper));
    gateway.kill();

    // What ran is marked and ended, what waited goes on.
    let gateway = site.start().ready();
    let ended = over(&gateway, "elec2", 1);
    assert_eq!(ended["state"], "interrupted", "{ended}");
    until("nothing of it lives", || (!is_alive(&sleeper)).then_some(()));
    let other = over(&gateway, "plain", 1);
    assert_eq!(other["state"], "empty", "{other}");

    // The gateway's own end, when it is asked for.
    assert_eq!(order(&gateway, "elec2").0, 200);
    let sleeper = started(&pid);
    assert_eq!(gateway.stop(), Some(0));
    let state: Option<String> = ask_ledger(
        &site,
        "SELECT state FROM retrainings ORDER BY retraining_no DESC LIMIT 1",
    );
    assert_eq!(state.as_deref(), Some("interrupted"));
    until("nothing of it lives", || (!is_alive(&sleeper)).then_some(()));

    site.model_toml("elec2", &endless("1s"));
    let gateway = site.start().ready();
    let timed_out = ordered(&gateway, "elec2");
    assert_eq!(timed_out["state"], "timed_out", "{timed_out}");
    assert!(
        timed_out["outcome"].as_str().unwrap().contains("after 1s"),
        "{timed_out}"
    );
    let log = std::fs::metadata(timed_out["log"].as_str().unwrap()).unwrap().len();
    assert!(log < 1 << 20, "a flood of {log} bytes");
    assert_eq!(gateway.stop(), Some(0));

    // Whoever may write model.toml may not run programs, unless the server allows it.
    site.set(QUICK);
    let gateway = site.start().ready();
    let forbidden = ordered(&gateway, "elec2");
    assert_eq!(forbidden["state"], "forbidden", "{forbidden}");
    assert!(
        forbidden["outcome"]
            .as_str()
            .unwrap()
            .contains("retrain_commands = true"),
        "{forbidden}"
    );
    assert_eq!(forbidden["rows"], 80);
}
