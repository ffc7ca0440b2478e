//! Files that are vetted by running them.

use super::*;

#[test]
fn admission_reports_what_a_good_file_is() {
    let spawner = spawner();
    for (name, batched) in [
        ("e01_logreg.onnx", true),
        ("e02_tree.onnx", true),
        ("mean.onnx", true),
        ("single.onnx", false),
    ] {
        let report = probe(&spawner, &file(name), &ProbeSettings::default()).unwrap();
        assert_eq!(
            (report.batched, report.probe_rows),
            (batched, if batched { 4 } else { 1 }),
            "{name}"
        );
        assert_eq!(report.probe_outputs.len(), report.signature.outputs.len());
        assert!(
            report.probe_outputs.iter().all(|o| o.rows() == report.probe_rows),
            "{name}"
        );
        assert!(0 < report.latency_us_p50 && report.latency_us_p50 <= report.latency_us_p99);
        assert!(report.memory_bytes > 1 << 20);
        let again = probe(&spawner, &file(name), &ProbeSettings::default()).unwrap();
        assert_eq!(again.probe_outputs, report.probe_outputs, "{name}");
    }
}

#[test]
fn an_output_without_rows_hinders_merging_only_where_it_follows_the_batch() {
    let spawner = spawner();
    let report = probe(&spawner, &file("class_names.onnx"), &ProbeSettings::default()).unwrap();
    let shapes: Vec<&[usize]> = report.probe_outputs.iter().map(Tensor::shape).collect();
    assert_eq!((report.batched, shapes), (true, vec![&[4, 1][..], &[2]]));
    let report = probe(&spawner, &file("whole.onnx"), &ProbeSettings::default()).unwrap();
    assert_eq!((report.batched, report.probe_rows), (false, 1));
}

#[test]
fn admission_refuses_bad_files_with_a_sentence_each() {
    let spawner = spawner();
    let settings = ProbeSettings {
        run_cpu_limit: Duration::from_millis(500),
        ..ProbeSettings::default()
    };
    let expected = [
        ("hang.onnx", "took more than 500ms of CPU time"),
        ("nan.onnx", "not finite"),
        ("random.onnx", "different answers to the same input"),
        ("coupled.onnx", "depends on its neighbours"),
        ("misfit.onnx", "fails on every made-up row"),
        ("make_bad.py", "loading it failed"),
        ("absent.onnx", "loading it failed"),
    ];
    for (name, words) in expected {
        let refusal = probe(&spawner, &file(name), &settings).map(|_| "admitted").unwrap_err();
        assert!(refusal.contains(words), "{name}: {refusal}");
    }
    let tight = ProbeSettings {
        limits: RunnerLimits {
            address_space_bytes: Some(1 << 20),
            ..RunnerLimits::default()
        },
        ..settings
    };
    assert!(probe(&spawner, &file("mean.onnx"), &tight).is_err());
}
