//! What holds for every sequence of pairs and events.

use proptest::prelude::*;

use super::*;

/// Something that happens to the judge.
#[derive(Debug, Clone)]
enum Event {
    Fold(Vec<(u32, f64, u8)>),
    Enter(u32),
    Leave(u32),
    Swap(u32, Swap),
    Hold(bool),
    Decline(u32),
    Alpha(f64),
    Groups(u8, bool),
    Cost(u32, u64),
    Twin(u32, bool, Option<u32>),
    Restart,
}

fn event() -> impl Strategy<Value = Event> {
    let entries = prop::collection::btree_map(1u32..6, (-1.0f64..1.0, 0u8..6), 0..5);
    let version = 1u32..6;
    let kind = prop_oneof![Just(Swap::Promotion), Just(Swap::Rollback), Just(Swap::Person)];
    prop_oneof![
        40 => entries.prop_map(|m| Event::Fold(m.into_iter().map(|(v, (d, k))| (v, d, k)).collect())),
        4 => version.clone().prop_map(Event::Enter),
        1 => version.clone().prop_map(Event::Leave),
        1 => (version.clone(), kind).prop_map(|(v, k)| Event::Swap(v, k)),
        1 => any::<bool>().prop_map(Event::Hold),
        1 => version.prop_map(Event::Decline),
        1 => (0.001f64..0.5).prop_map(Event::Alpha),
        2 => (0u8..4, any::<bool>()).prop_map(|(count, strict)| Event::Groups(count, strict)),
        1 => (1u32..6, 0u64..3_000_000).prop_map(|(v, ns)| Event::Cost(v, ns)),
        1 => (1u32..6, any::<bool>(), prop::option::of(1u32..6)).prop_map(|(v, is, of)| Event::Twin(v, is, of)),
        1 => Just(Event::Restart),
    ]
}

fn entries(raw: &[(u32, f64, u8)], shift: u32) -> Vec<Entry> {
    let entry = |(version, difference, kind): &(u32, f64, u8)| Entry {
        version: VersionNo(*version),
        difference: if *kind == 0 {
            0.0
        } else {
            *difference / f64::from(shift)
        },
        kind: [Kind::Uncovered, Kind::Failed]
            .get(usize::from(*kind))
            .copied()
            .unwrap_or(Kind::Scored),
        classes: if *kind == 2 { Classes::Few } else { Classes::Enough },
        seen: Seen::from_code(u8::try_from(version % 33).unwrap_or(0)),
    };
    raw.iter().map(entry).collect()
}

/// Applies one event; folding goes over 40 rows, so that wealth moves.
fn apply(judge: &mut Judge, row: u64, event: &Event, reverse: bool) -> Vec<Option<Decision>> {
    let clock = at(row);
    match event {
        Event::Fold(raw) => {
            let fold = |step: u64| {
                let mut entries = entries(raw, 1 + u32::try_from(step % 3).unwrap());
                if reverse {
                    entries.reverse();
                }
                let mut pair = pair(judge, row + step, entries);
                pair.groups = (row + step) % 8;
                pair.champion = Seen::from_code(u8::try_from(step % 33).unwrap_or(0));
                judge.fold(&pair)
            };
            return (0..40).map(fold).collect();
        }
        Event::Enter(version) => judge.enter(VersionNo(*version), clock),
        Event::Leave(version) => judge.leave(VersionNo(*version)),
        Event::Swap(version, kind) => judge.swap(VersionNo(*version), *kind, clock),
        Event::Hold(hold) => judge.hold(*hold),
        Event::Decline(version) => judge.decline(VersionNo(*version)),
        Event::Alpha(alpha) => drop(judge.set_policy(Policy {
            alpha: *alpha,
            ..policy()
        })),
        Event::Groups(count, strict) => drop(judge.set_policy(Policy {
            groups: guardrails::groups(*count, *strict),
            ..judge.policy().clone()
        })),
        Event::Cost(version, ns) => judge.set_cost(VersionNo(*version), *ns),
        Event::Twin(version, is, of) => judge.set_twin(VersionNo(*version), *is, of.map(VersionNo)),
        Event::Restart => judge.restart_evidence(),
    }
    Vec::new()
}

/// The state with every float as its bits.
fn bits(judge: &Judge) -> String {
    serde_json::to_string(judge).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_replay_gives_the_same_bits_even_through_storage_and_whatever_the_order_of_entries(
        events in prop::collection::vec(event(), 1..40),
    ) {
        let (mut live, mut again, mut reversed) = (judge(&[B, C]), judge(&[B, C]), judge(&[B, C]));
        for (step, event) in (0u64..).zip(&events) {
            let row = 1 + step * 50;
            let decisions = apply(&mut live, row, event, false);
            prop_assert_eq!(&decisions, &apply(&mut again, row, event, false));
            prop_assert_eq!(&decisions, &apply(&mut reversed, row, event, true));
            again = serde_json::from_str(&bits(&again)).unwrap();
            prop_assert_eq!(bits(&live), bits(&again));
            prop_assert_eq!(bits(&live), bits(&reversed));
        }
        prop_assert_eq!(live.verdicts(), again.verdicts());
    }

    #[test]
    fn no_sequence_of_events_breaks_what_always_holds(events in prop::collection::vec(event(), 1..60)) {
        let mut judge = judge(&[B, C]);
        for (step, event) in (0u64..).zip(&events) {
            for decision in apply(&mut judge, 1 + step * 50, event, false).into_iter().flatten() {
                prop_assert!(!judge.is_held() && decision.version != judge.champion());
                prop_assert!(judge.challengers().any(|v| v == decision.version));
                let by_group = decision.why.starts_with("in group");
                prop_assert!(by_group || decision.numbers.log_wealth >= decision.numbers.log_bar - 2.31);
                if decision.kind == Action::Promote {
                    prop_assert!(!judge.is_twin(decision.version));
                    prop_assert!(decision.basis.guardrails.iter().all(|rail| rail.passes), "{:?}", decision.basis);
                }
                prop_assert!(by_group || decision.numbers.labels >= judge.policy().min_labels);
            }
            prop_assert!(judge.challengers().all(|v| v != judge.champion()));
            let mut orders: Vec<u32> = judge.queue.iter().filter_map(|c| c.order).collect();
            orders.sort_unstable();
            let given = orders.len();
            orders.dedup();
            prop_assert_eq!(orders.len(), given, "an order of arrival was given twice");
            for verdict in judge.verdicts() {
                prop_assert!(verdict.numbers.log_wealth.is_finite() && verdict.numbers.log_bar.is_finite());
                prop_assert!(!verdict.why.is_empty() && !verdict.why.contains("NaN"), "{}", verdict.why);
                for number in verdict.guardrails.iter().filter_map(|rail| rail.value) {
                    prop_assert!(number.is_finite(), "{:?}", verdict.guardrails);
                }
            }
        }
    }
}
