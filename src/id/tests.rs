//! What prediction ids promise.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;

use super::*;

const NOW: i64 = 1_790_000_000_000;

fn generator() -> IdGenerator {
    IdGenerator::new(IdKey::new(*b"0123456789abcdef"), 0)
}

fn text(id: PredictionId, row: Option<u32>) -> String {
    let mut out = Vec::new();
    id.write(row, &mut out);
    String::from_utf8(out).unwrap()
}

proptest! {
    #[test]
    fn an_id_reads_back_as_the_number_and_time_it_was_issued_with(ms in 0_i64..1 << 41, rows in 1_u32..=MAX_ROWS, row in 0_u32..MAX_ROWS) {
        let ids = generator();
        let id = ids.issue(EPOCH_MS + ms, rows);
        let row = row % rows;
        let read = ids.key().parse(&text(id, Some(row))).unwrap();
        prop_assert_eq!(read.number, id.number + i64::from(row));
        prop_assert_eq!(time_of(id.number), (EPOCH_MS + ms).max(time_of(1)));
        prop_assert_eq!(ids.key().parse(&id.to_string()), ids.key().parse(&text(id, Some(0))));
        prop_assert_eq!(ids.key().parse(&ids.key().id_of(read.number).to_string()), Some(read));
    }

    #[test]
    fn any_single_changed_character_is_refused(at in 0_usize..31, to in any::<char>(), rows in 1_u32..100) {
        let ids = generator();
        let good = text(ids.issue(NOW, rows), Some(0));
        let bad: String = good.chars().enumerate().map(|(i, c)| if i == at { to } else { c }).collect();
        let read = ids.key().parse(&bad);
        // The last character is the row: another row of the same request is no forgery.
        let is_row = at == 30 && to.to_digit(10).is_some_and(|k| k < rows.next_power_of_two());
        prop_assert!(bad == good || is_row || read.is_none(), "{bad}");
    }

    #[test]
    fn no_text_panics(text in ".*", tail in "p1_[0-9a-z]{20,30}(\\.[0-9]{0,12})?") {
        let ids = generator();
        prop_assert!(ids.key().parse(&text).is_none() && ids.key().parse(&tail).is_none());
    }
}

#[test]
fn every_other_letter_at_every_place_is_refused() {
    let ids = generator();
    let good = ids.issue(NOW, 1).to_string();
    let letters = (0..128_u8).map(char::from);
    for (at, to) in (0..good.len()).flat_map(|at| letters.clone().map(move |to| (at, to))) {
        let bad: String = good
            .chars()
            .enumerate()
            .map(|(i, c)| if i == at { to } else { c })
            .collect();
        assert_eq!(ids.key().parse(&bad).is_some(), bad == good, "{bad}");
    }
}

#[test]
fn rows_of_other_requests_are_out_of_reach() {
    let ids = generator();
    let (one, five) = (ids.issue(NOW, 1), ids.issue(NOW, 5));
    assert_eq!(
        (one.number + 1, five.number + 8),
        (five.number, ids.issue(NOW, 1).number)
    );
    assert!(ids.key().parse(&text(one, Some(1))).is_none());
    assert!(ids.key().parse(&text(five, Some(4))).is_some() && ids.key().parse(&text(five, Some(8))).is_none());
    for row in ["", "00", "01", "+1", "1000000", "99999999999", "0.0", " 0", "0 ", "-0"] {
        assert!(ids.key().parse(&format!("{five}.{row}")).is_none(), "{row:?}");
    }
}

#[test]
fn texts_sort_by_time_even_when_the_clock_steps_back() {
    let ids = generator();
    let texts: Vec<String> = [NOW, NOW, NOW - 5_000, NOW + 1, NOW + 90_000]
        .map(|now| ids.issue(now, 3).to_string())
        .to_vec();
    assert!(texts.is_sorted() && texts.iter().collect::<BTreeSet<_>>().len() == texts.len());
    assert!(texts.iter().all(|text| text.len() == PREFIX.len() + DIGITS));
}

#[test]
fn the_floor_is_kept_and_extreme_clocks_are_survived() {
    let ids = IdGenerator::new(IdKey::new([7; 16]), 1 << 60);
    assert!(ids.issue(NOW, 1).number >= 1 << 60);
    for clock in [i64::MIN, -1, 0, i64::MAX] {
        let ids = generator();
        let id = ids.issue(clock, u32::MAX);
        assert!(id.number > 0 && ids.key().parse(&id.to_string()).is_some(), "{clock}");
    }
}

#[test]
fn eight_threads_never_get_the_same_number() {
    let ids = generator();
    let taken: Vec<i64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8_u32)
            .map(|thread| {
                let ids = &ids;
                scope.spawn(move || -> Vec<i64> {
                    let rows = |i: u32| 1 + (i + thread) % 5;
                    (0..2_000)
                        .flat_map(|i| {
                            let id = ids.issue(NOW + i64::from(i / 500), rows(i));
                            (0..rows(i)).map(move |row| id.number + i64::from(row))
                        })
                        .collect()
                })
            })
            .collect();
        threads.into_iter().flat_map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(taken.iter().collect::<BTreeSet<_>>().len(), taken.len());
}

#[test]
fn another_key_refuses_and_samples_otherwise() {
    let (ids, other) = (generator(), IdKey::new([9; 16]));
    let numbers: Vec<i64> = (0..10_000).map(|i| ids.issue(NOW + i, 1).number).collect();
    assert!(other.parse(&ids.issue(NOW, 1).to_string()).is_none());
    let sampled = |key: &IdKey, share| numbers.iter().filter(|n| key.is_sampled(**n, share)).count();
    assert_eq!((sampled(ids.key(), 0.0), sampled(ids.key(), 1.0)), (0, numbers.len()));
    // Five standard deviations of a binomial around 1,000 are 150.
    assert!(
        (850..1_150).contains(&sampled(ids.key(), 0.1)),
        "{}",
        sampled(ids.key(), 0.1)
    );
    assert!(
        numbers
            .iter()
            .all(|n| !ids.key().is_sampled(*n, 0.1) || ids.key().is_sampled(*n, 0.3))
    );
    assert!(
        numbers
            .iter()
            .any(|n| ids.key().is_sampled(*n, 0.5) != other.is_sampled(*n, 0.5))
    );
}

#[test]
fn a_key_file_is_made_once_private_and_never_taken_when_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("id.key");
    let keys: Vec<u64> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| IdKey::load_or_create(&path).unwrap().sample_hash(1)))
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(
        keys.iter().all(|key| *key == keys[0]),
        "all makers use the key that won"
    );
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        1,
        "nothing is left beside it"
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(
        IdKey::load_or_create(&path)
            .unwrap_err()
            .to_string()
            .contains("chmod 600")
    );
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    for length in [0, 15, 17] {
        std::fs::write(&path, vec![1; length]).unwrap();
        assert!(
            IdKey::load_or_create(&path)
                .unwrap_err()
                .to_string()
                .contains("16 bytes")
        );
    }
}

#[test]
fn after_a_rotation_ids_of_the_former_key_are_taken_but_none_that_it_could_not_have_issued() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("ids.key");
    let ids = IdGenerator::new(IdKey::load_or_create(&path).unwrap(), 0);
    let clone = ids.key().clone();
    let old = IdKey::load(&path).unwrap();
    let first = ids.issue(NOW, 3);
    assert_eq!(ids.rotate(&path, NOW + 1, 0, false).unwrap().number, 1);
    let second = ids.issue(NOW + 2, 1);
    let again = IdKey::load(&path).unwrap();
    for key in [ids.key(), &clone, &again] {
        assert_eq!(key.read(&text(first, Some(2))).map(|p| p.number), Ok(first.number + 2));
        assert_eq!(key.read(&second.to_string()).map(|p| p.number), Ok(second.number));
        assert_eq!(key.generation().number, 1);
    }
    assert_eq!(old.read(&second.to_string()), Err(Foreign::Issuer), "by another key");
    // Whoever has the former key makes an id of later: it is refused.
    let thief = IdGenerator::new(old.clone(), 0);
    assert!(
        again.read(&thief.issue(NOW + 5_000, 1).to_string()).is_ok(),
        "a request that was under way"
    );
    assert_eq!(
        again.read(&thief.issue(NOW + 60_000, 1).to_string()),
        Err(Foreign::Issuer)
    );
    assert_eq!(
        (again.sample_hash(7), again.pseudonym(b"x")),
        (old.sample_hash(7), old.pseudonym(b"x")),
        "rows and entities stay what they were"
    );
}

#[test]
fn a_third_generation_is_refused_and_dropping_one_that_is_open_must_be_forced() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("ids.key");
    let ids = IdGenerator::new(IdKey::load_or_create(&path).unwrap(), 0);
    let open_ms = 1_000_000;
    let first = ids.issue(NOW, 1).to_string();
    ids.rotate(&path, NOW + 1, open_ms, false).unwrap();
    let second = ids.issue(NOW + 100_000, 1).to_string();
    let refused = ids.rotate(&path, NOW + 100_001, open_ms, false).unwrap_err();
    assert!(matches!(refused, RotateError::StillOpen { .. }), "{refused}");
    assert_eq!(ids.key().generation().number, 1, "nothing has changed");
    assert!(ids.key().read(&first).is_ok() && ids.key().read(&second).is_ok());
    let later = NOW + 1_100_000;
    assert_eq!(ids.rotate(&path, later, open_ms, false).unwrap().number, 2);
    assert_eq!(ids.key().read(&first), Err(Foreign::Issuer));
    assert!(ids.key().read(&second).is_ok());
    assert!(
        ids.rotate(&path, later + 1, i64::MAX, false).is_err(),
        "a horizon in rows has no date"
    );
    ids.rotate(&path, later + 1, open_ms, true).unwrap();
    assert_eq!(ids.key().read(&second), Err(Foreign::Issuer));
}

#[test]
fn a_damaged_file_of_keys_or_one_of_another_key_is_named_and_nothing_is_guessed() {
    let dir = tempfile::TempDir::new().unwrap();
    let path = dir.path().join("ids.key");
    let tags = dir.path().join("ids.tags");
    let key = IdKey::load_or_create(&path).unwrap();
    key.rotate(&path, (NOW, 0), 0, false).unwrap();
    let mode = std::fs::metadata(&tags).unwrap().permissions().mode();
    assert_eq!(mode & 0o077, 0, "for its owner alone");
    let whole = std::fs::read(&tags).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&tags, bytes).unwrap();
        let error = IdKey::load(&path).unwrap_err().to_string();
        assert!(error.contains("ids.tags") && error.contains("restore"), "{error}");
    }
    std::fs::write(&tags, &whole[..40]).unwrap();
    assert!(IdKey::load(&path).is_err());
    std::fs::write(&tags, &whole).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert!(IdKey::load_or_create(&path).is_err(), "another key, the same tags");
}

#[test]
fn two_gateways_under_one_key_issue_no_number_twice_whatever_their_clocks_say() {
    let key = IdKey::new([3; 16]);
    let first = IdGenerator::new(key.clone(), 1);
    let mut seen = std::collections::HashSet::new();
    let mut take = |id: PredictionId, rows: u32| {
        let block = rows.next_power_of_two();
        (0..i64::from(block.min(512))).all(|row| seen.insert(id.number + row))
            && seen.insert(-id.number - i64::from(block))
    };
    let now = 1_800_000_000_000;
    for at in 0..100 {
        assert!(take(first.issue(now + at / 10, 7), 7));
    }
    // A burst runs ahead of the clock.
    for _ in 0..9 {
        assert!(take(first.issue(now, MAX_ROWS), MAX_ROWS));
    }
    let (lane, floor) = first.share();
    let second = IdGenerator::beside(key.clone(), floor, lane);
    for (at, rows) in (0..2_000_i64).zip([1, 3, 64, 1, 300].into_iter().cycle()) {
        assert!(take(first.issue(now + at / 50, rows), rows), "first, {at}");
        assert!(take(second.issue(now + 3 - at / 70, rows), rows), "second, {at}");
    }
    // The clock of the first one was ahead. It has ended, and the ledger tells how far it came.
    second.raise(first.issue(now + 60, 1).number + 1);
    let (again, floor) = second.share();
    assert_ne!(again, lane, "the next one gets the lane of the one that has ended");
    let third = IdGenerator::beside(key.clone(), floor, again);
    for at in 0..2_000 {
        assert!(
            take(second.issue(now, 5), 5) && take(third.issue(now + at, 5), 5),
            "{at}"
        );
    }
    let id = third.issue(now, 5);
    assert_eq!(key.parse(&format!("{id}.4")).unwrap().number, id.number + 4);
}

#[test]
fn ids_that_are_being_issued_while_the_numbers_are_shared_lie_before_or_in_their_own_lane() {
    let key = IdKey::new([4; 16]);
    for _ in 0..50 {
        let first = IdGenerator::new(key.clone(), 1);
        // An odd one, of which nothing may be left.
        let now = 1_800_000_000_001;
        let (issued, (lane, floor)) = std::thread::scope(|scope| {
            let issue = || (0..2_000).map(|_| first.issue(now, 3).number).collect::<Vec<i64>>();
            let threads = [scope.spawn(issue), scope.spawn(issue)];
            while first.next.load(Ordering::Relaxed) < 10_000 {
                std::hint::spin_loop();
            }
            let shared = first.share();
            let issued: Vec<i64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            (issued, shared)
        });
        assert_eq!(lane, Lane::Odd);
        let even = |number: i64| (number >> SEQUENCE_BITS) % 2 == 0;
        assert!(issued.iter().all(|&number| number + 4 <= floor || even(number)));
    }
}
