use proptest::prelude::*;

use super::*;

proptest! {
    #[test]
    fn the_edge_of_a_delays_bucket_is_no_shorter_and_at_most_a_tenth_longer(delay in 0_u64..1 << 50) {
        let at = bucket(delay);
        prop_assert!(at < DELAYS);
        let end = edge(at);
        prop_assert!(end >= delay && end <= delay + delay / 10 + 2, "{delay}: {end}");
    }
}

#[test]
fn late_labels_name_the_maturity_that_would_have_caught_99_of_100() {
    let (mut reports, maturity) = (Reports::default(), Span::Rows(100));
    for _ in 0..980 {
        reports.note(50, false, maturity);
    }
    assert_eq!(reports.too_late(maturity), None);
    for _ in 0..20 {
        reports.note(1_000, true, maturity);
    }
    let said = reports.too_late(maturity).unwrap();
    assert!(
        said.starts_with("2.0 % of the labels came after maturity (100 rows)"),
        "{said}"
    );
    let Some(Span::Rows(rows)) = reports.of_99_percent(maturity) else {
        panic!("rows")
    };
    assert!((1_000..1_110).contains(&rows), "{rows}");
}

#[test]
fn a_share_of_labels_is_doubted_only_where_it_differs_materially() {
    let mut reports = Reports::default();
    let seen = |p: f64| Seen::of(&Outcome::Scored(Score::Binary(p)), 0.5);
    for n in 0..4_000_u64 {
        // 97 and 95 of 100 rows have a label.
        reports.count(Some(1), seen(0.8), (n % 100 < 97).then_some(1));
        reports.count(Some(0), seen(0.2), (n % 100 < 95).then_some(1));
    }
    assert_eq!(reports.difference(MATERIAL), None);
    assert!(reports.is_harmless());
    for n in 0..4_000_u64 {
        reports.count(Some(0), seen(0.2), (n % 100 < 30).then_some(1));
    }
    let said = reports.difference(MATERIAL).unwrap();
    assert!(said.contains("of the rows with the negative label"), "{said}");
    assert!(!reports.is_harmless());
}
