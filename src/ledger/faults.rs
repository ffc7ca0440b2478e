//! Every bit of a small ledger flipped, and every cut: what is not as it was written is found, or had no meaning.
//!
//! `DETHRONE_FAULTS=long cargo test --release --locked --lib faults -- --nocapture` tries all of them; else some are drawn.
//! Space that holds nothing is most of a small ledger: bits of the file that have no effect when all 256 in a row are
//! flipped at once are not tried one by one. Of each: *found* (refused, rescued, or named), *without effect* (everything
//! that is read is the same: the bit lay in space that holds nothing), or a *silent difference*, of which there must be
//! none.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use rusqlite::OptionalExtension;

use super::rescue::tests::state;
use super::rows::Position;
use super::{Ledger, LedgerError};
use crate::score::{ModelNo, VersionNo};

/// Everything that verdicts, register and labels are read from, a line each.
fn read(ledger: &Ledger) -> Result<Vec<String>, LedgerError> {
    let (reader, mut all) = (ledger.reader(), Vec::new());
    let mut ids = Vec::new();
    for name in reader.model_names()? {
        let Some(model) = reader.known_model(&name)? else {
            continue;
        };
        let no = model.no;
        all.push(format!("{model:?}"));
        all.extend(reader.versions(no)?.iter().map(|row| format!("{row:?}")));
        all.extend(reader.journal(no, 0)?.iter().map(|row| format!("{row:?}")));
        all.extend(reader.decisions(no, 100)?.iter().map(|row| format!("{row:?}")));
        all.push(format!("{:?} {:?}", reader.cursor(no)?, reader.last_row(no)?));
        all.extend(reader.coverage(no)?.iter().map(|row| format!("{row:?}")));
        reader.pairs(no, 0, |pair| all.push(format!("{pair:?}")))?;
        reader.open_rows(Position { model: no, row: 0 }, |row| {
            all.push(format!("{row:?}"));
            ids.push(row.id);
            Ok(true)
        })?;
        for k in 1..=20 {
            all.push(format!("{k} {:?}", reader.id_of_caller(no, &format!("order-{k}"))?));
        }
        all.push(format!("{:?}", reader.ids_of_entity(no, "e")?));
        let kept = reader.kept(no)?;
        all.push(format!("{no:?} {:?}", (kept != super::Kept::default()).then_some(kept)));
        all.push(format!("{no:?} {:?}", reader.baseline(VersionNo(1))?));
        let sql = "SELECT row || feature || what || log_odds FROM alarms WHERE model_no = ?1 AND whole('alarms', seal,
            alarm_no, model_no, row, time, version_no, feature, what, log_odds)";
        let alarm = ledger.connection.query_row(sql, [no.0], |row| row.get::<_, String>(0));
        all.push(format!("{no:?} {:?}", alarm.optional()?));
    }
    for id in ids {
        let mut line = format!("{id} {:?} {:?}", reader.position(id)?, reader.label(id)?);
        let _ = write!(
            line,
            " {:?} {:?} {:?}",
            reader.answered(id)?,
            reader.outcomes(id)?,
            reader.recorded(id)?
        );
        all.push(line);
        all.push(format!("{id} {:?}", reader.fallback(id)?));
    }
    all.push(format!("{:?} {:?}", reader.lineup(1)?, reader.last_id()?));
    Ok(all)
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Found,
    WithoutEffect,
    Silent(String),
}

fn compare(ledger: &Ledger, before: &[String]) -> Seen {
    if ledger.damage().found().0 > 0 {
        return Seen::Found;
    }
    match read(ledger) {
        Err(_) => Seen::Found,
        Ok(now) if now == before => Seen::WithoutEffect,
        Ok(now) => {
            let pair = now.iter().zip(before).find(|(now, before)| now != before);
            Seen::Silent(format!("{pair:?}"))
        }
    }
}

/// As a look through the file sees it, which never writes.
fn look(state: &Path, before: &[String]) -> Seen {
    let Ok(ledger) = Ledger::open_to_read(state) else {
        return Seen::Found;
    };
    match ledger.check() {
        Err(_) => Seen::Found,
        Ok(()) => compare(&ledger, before),
    }
}

fn random(seed: &mut u64) -> u64 {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    *seed >> 33
}

fn is_long() -> bool {
    std::env::var("DETHRONE_FAULTS").is_ok_and(|form| form == "long")
}

/// All numbers below `all`, or some of them.
fn drawn(all: usize, some: usize) -> Vec<usize> {
    if is_long() {
        return (0..all).collect();
    }
    let mut seed = 20_261_126;
    (0..some)
        .map(|_| usize::try_from(random(&mut seed)).unwrap() % all)
        .collect()
}

#[derive(Debug, Default)]
struct Tally {
    found: usize,
    without_effect: usize,
    silent: Vec<String>,
}

impl Tally {
    fn add(&mut self, at: usize, seen: Seen) {
        match seen {
            Seen::Found => self.found += 1,
            Seen::WithoutEffect => self.without_effect += 1,
            Seen::Silent(how) => self.silent.push(format!("{at}: {how}")),
        }
    }

    /// Flips bits at once; where that has an effect, in smaller groups.
    fn add_together(&mut self, bits: &[usize], smaller: &[usize], flipped: &impl Fn(&[usize]) -> Seen) {
        let seen = flipped(bits);
        match (smaller.split_first(), seen) {
            (_, Seen::WithoutEffect) => self.without_effect += bits.len(),
            (Some((size, smaller)), _) => bits
                .chunks(*size)
                .for_each(|some| self.add_together(some, smaller, flipped)),
            (None, seen) => self.add(bits[0], seen),
        }
    }

    fn tell(&self, fault: &str) {
        let (runs, silent) = (self.found + self.without_effect + self.silent.len(), self.silent.len());
        println!(
            "| {fault} | {runs} runs | {} found | {} without effect | {silent} silent differences |",
            self.found, self.without_effect
        );
        assert!(self.silent.is_empty(), "{fault}: {:?}", &self.silent[..silent.min(5)]);
    }
}

#[test]
fn every_bit_of_a_ledger_that_means_something_is_missed_when_it_flips() {
    let dir = state(12);
    let path = dir.path().join("ledger.sqlite");
    let before = read(&Ledger::open_to_read(dir.path()).unwrap()).unwrap();
    assert_eq!(look(dir.path(), &before), Seen::WithoutEffect);
    let bytes = fs::read(&path).unwrap();
    let file = fs::File::options().write(true).open(&path).unwrap();
    let mut tally = Tally::default();
    let flipped = |bits: &[usize]| {
        let (first, last) = (bits[0] / 8, bits[bits.len() - 1] / 8);
        let mut part = bytes[first..=last].to_vec();
        for bit in bits {
            part[bit / 8 - first] ^= 1 << (bit % 8);
        }
        file.write_all_at(&part, first as u64).unwrap();
        let seen = look(dir.path(), &before);
        file.write_all_at(&bytes[first..=last], first as u64).unwrap();
        seen
    };
    let bits = drawn(bytes.len() * 8, 600);
    if is_long() {
        bits.chunks(256)
            .for_each(|row| tally.add_together(row, &[8, 1], &flipped));
    } else {
        bits.iter().for_each(|bit| tally.add(*bit, flipped(&[*bit])));
    }
    tally.tell("one bit of the ledger's file flipped");
    let mut tally = Tally::default();
    for len in drawn(bytes.len(), 60) {
        fs::write(&path, &bytes[..len]).unwrap();
        tally.add(len, look(dir.path(), &before));
    }
    tally.tell("the ledger's file cut at a byte");
}

/// What a start made of a damaged file.
#[derive(Debug, PartialEq, Eq)]
enum Start {
    Read,
    Rescued,
    Refused,
}

/// Starts with one bit of the file flipped. Whatever comes of it says nothing that was not said before.
fn start_with(bytes: &[u8], mark: &[u8], bit: usize, before: &[String]) -> Start {
    let place = tempfile::TempDir::new().unwrap();
    let mut flipped = bytes.to_vec();
    flipped[bit / 8] ^= 1 << (bit % 8);
    fs::write(place.path().join("ledger.sqlite"), &flipped).unwrap();
    fs::write(place.path().join("ledger.mark"), mark).unwrap();
    let Ok(ledger) = Ledger::open(place.path()) else {
        assert_eq!(
            fs::read(place.path().join("ledger.sqlite")).unwrap(),
            flipped,
            "bit {bit}: it is where it was"
        );
        return Start::Refused;
    };
    let said = read(&ledger).unwrap_or_else(|error| panic!("bit {bit}: {error}"));
    // A row that is gone leaves a line that says so; no line may say something else.
    let strange = said.iter().filter(|line| {
        let says_less = ["None", "id: 0", "Shed(Restart)", "restart", "[]"]
            .iter()
            .any(|part| line.contains(part));
        !says_less && !before.contains(line)
    });
    let strange: Vec<&String> = strange.filter(|line| !line.starts_with("[")).collect();
    assert!(strange.is_empty(), "bit {bit}: {strange:?}");
    match super::swap::kept(place.path()).is_empty() {
        true => Start::Read,
        false => Start::Rescued,
    }
}

/// A ledger's file, what keeps it company, and what it says.
fn whole() -> (Vec<u8>, Vec<u8>, Vec<String>) {
    let dir = state(12);
    let before = read(&Ledger::open_to_read(dir.path()).unwrap()).unwrap();
    let file = |name: &str| fs::read(dir.path().join(name)).unwrap();
    (file("ledger.sqlite"), file("ledger.mark"), before)
}

#[test]
fn a_start_after_a_flip_keeps_what_is_whole_and_puts_nothing_in() {
    let (bytes, mark, before) = whole();
    let all = bytes.len() * 8;
    let (mut refused, mut rescued, mut runs) = (0, 0, 0);
    // An odd step: every place of a byte has its turn.
    for bit in drawn(all, 80)
        .into_iter()
        .step_by(if drawn(all, 1).len() > 1 { 37 } else { 1 })
    {
        let start = start_with(&bytes, &mark, bit, &before);
        runs += 1;
        rescued += usize::from(start == Start::Rescued);
        refused += usize::from(start == Start::Refused);
    }
    println!("| a start after one bit flipped | {runs} runs | {rescued} rescued | {refused} refused | 0 false rows |");
}

#[test]
fn a_flip_in_the_schemas_own_text_is_found_at_the_start_and_the_rows_are_saved() {
    let (bytes, mark, before) = whole();
    let find = |text: &str, from: usize| {
        let found = bytes[from..]
            .windows(text.len())
            .position(|part| part == text.as_bytes());
        from + found.unwrap_or_else(|| panic!("{text}"))
    };
    let (mut names, mut seed) = (0, 1_usize);
    for table in super::seal::TABLES {
        let begin = find(&format!("CREATE TABLE {} (", table.name), 0);
        // One of its columns, another in each table, and it.
        seed = seed.wrapping_mul(7).wrapping_add(3);
        let column = table.columns[seed % table.columns.len()];
        for at in [
            begin + "CREATE TABLE ".len(),
            find(&format!("{column} "), begin + 14 + table.name.len()),
            // A column of another type, or a key that is none.
            find("INTEGER", begin),
            find("PRIMARY KEY", begin),
        ] {
            // Another letter.
            assert_eq!(
                start_with(&bytes, &mark, at * 8 + 1, &before),
                Start::Rescued,
                "{} {column}",
                table.name
            );
            names += 1;
        }
    }
    println!(
        "| one bit of a name, a type or a key in the schema flipped | {names} runs | {names} rescued | 0 false rows |"
    );
}

/// A ledger with two commits in its log, as a kill leaves it.
fn killed() -> (tempfile::TempDir, Vec<String>) {
    let dir = state(6);
    let mut ledger = Ledger::open(dir.path()).unwrap();
    let said = ("ada", "audit", "because");
    let decided = ledger.transaction(true, |writer| {
        writer.insert_decision(ModelNo(1), 0, ("hold", None, None), said, None)
    });
    decided.unwrap();
    let changed = ledger.transaction(true, |writer| {
        let model = writer.known_model("m")?.unwrap();
        let champion = super::ModelRow {
            epoch: model.epoch + 1,
            champion: Some(VersionNo(1)),
            ..model
        };
        writer.update_model(&champion.proposed())
    });
    changed.unwrap();
    let kept = tempfile::TempDir::new().unwrap();
    for name in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.mark"] {
        fs::copy(dir.path().join(name), kept.path().join(name)).unwrap();
    }
    let before = read(&ledger).unwrap();
    (kept, before)
}

#[test]
fn every_bit_of_the_log_that_means_something_is_missed_when_it_flips() {
    let (kept, before) = killed();
    let files = ["ledger.sqlite", "ledger.sqlite-wal", "ledger.mark"]
        .map(|name| (name, fs::read(kept.path().join(name)).unwrap()));
    let log = files[1].1.clone();
    let place = tempfile::TempDir::new().unwrap();
    let start = |log: &[u8]| {
        for entry in fs::read_dir(place.path()).unwrap().flatten() {
            fs::remove_file(entry.path()).unwrap();
        }
        for (name, bytes) in &files {
            fs::write(place.path().join(name), bytes).unwrap();
        }
        fs::write(place.path().join(files[1].0), log).unwrap();
        match Ledger::open(place.path()) {
            Err(_) => Seen::Found,
            Ok(ledger) => compare(&ledger, &before),
        }
    };
    assert_eq!(start(&log), Seen::WithoutEffect);
    let mut tally = Tally::default();
    for bit in drawn(log.len() * 8, 120) {
        let mut flipped = log.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        tally.add(bit, start(&flipped));
    }
    assert_eq!(tally.without_effect, 0, "every frame is covered by a checksum");
    tally.tell("one bit of the ledger's log flipped");
    let mut tally = Tally::default();
    for len in drawn(log.len(), 40) {
        tally.add(len, start(&log[..len]));
    }
    tally.tell("the ledger's log cut at a byte");
}
