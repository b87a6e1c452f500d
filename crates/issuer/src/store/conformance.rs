//! One suite, every store: fixed cases for each promise of [`Store`], and random operations whose answers must be the
//! same everywhere.

use proptest::prelude::*;
use tempfile::TempDir;
use warifu_proto::code::Prefix;
use warifu_proto::id::MerchantId;
use warifu_proto::request_id::RequestId;

use super::model::ModelStore;
use super::sqlite::SqliteStore;
use super::*;
use crate::engine::chain;

fn prefix() -> Prefix {
    Prefix::parse("71000001").unwrap()
}

/// Both stores, with the folder that the second lies in.
fn stores() -> (TempDir, Vec<Box<dyn Store>>) {
    let folder = tempfile::tempdir().unwrap();
    let sqlite = SqliteStore::open(folder.path(), prefix()).unwrap();
    let model = ModelStore::new(sqlite.journal_id());
    (folder, vec![Box::new(sqlite), Box::new(model)])
}

/// Bytes that begin like an entry's: kind, version, partition, sequence.
fn entry(partition: u8, sequence: u64, rest: &[u8]) -> EntryBytes {
    let bytes = [[6, 1, partition].as_slice(), &sequence.to_be_bytes(), rest].concat();
    EntryBytes { partition, sequence, bytes }
}

/// A writer that knows the heads.
struct Heads {
    journal_id: [u8; 16],
    heads: std::collections::BTreeMap<u8, Head>,
}

impl Heads {
    fn new(store: &dyn Store) -> Self {
        Self { journal_id: store.journal_id(), heads: std::collections::BTreeMap::new() }
    }

    fn head(&self, partition: u8) -> Head {
        let empty =
            Head { partition, sequence: 0, chain: chain::start(&self.journal_id, partition) };
        self.heads.get(&partition).copied().unwrap_or(empty)
    }

    /// The next batch: one entry for each partition named, in that order.
    fn batch(&self, partitions: &[u8], rest: &[u8]) -> Batch {
        let mut batch = Batch::default();
        let mut now = std::collections::BTreeMap::new();
        for partition in partitions {
            let head: &mut Head = now.entry(*partition).or_insert_with(|| self.head(*partition));
            let entry = entry(*partition, head.sequence + 1, rest);
            *head = Head {
                partition: *partition,
                sequence: entry.sequence,
                chain: chain::next(&head.chain, &entry.bytes),
            };
            batch.entries.push(entry);
        }
        batch.before = now.keys().map(|partition| self.head(*partition)).collect();
        batch.after = now.into_values().collect();
        batch
    }

    fn appended(&mut self, batch: &Batch) {
        self.heads.extend(batch.after.iter().map(|head| (head.partition, *head)));
    }
}

fn append(store: &dyn Store, heads: &mut Heads, partitions: &[u8]) -> u64 {
    let batch = heads.batch(partitions, b"x");
    let position = store.append(batch.clone()).unwrap();
    heads.appended(&batch);
    position
}

#[test]
fn frames_come_back_from_any_position() {
    let (_folder, stores) = stores();
    for store in &stores {
        let mut heads = Heads::new(store.as_ref());
        assert!(store.read(1, 1 << 20).unwrap().is_empty());
        assert_eq!(append(store.as_ref(), &mut heads, &[0, 1, 0]), 3);
        assert_eq!(append(store.as_ref(), &mut heads, &[99]), 4);
        assert_eq!(append(store.as_ref(), &mut heads, &[1, 1]), 6);
        let all = store.read(1, 1 << 20).unwrap();
        assert_eq!(
            all.iter().map(|it| (it.position, it.last_position())).collect::<Vec<_>>(),
            [(1, 3), (4, 4), (5, 6)]
        );
        assert_eq!(
            all[0].entries.iter().map(|it| (it.partition, it.sequence)).collect::<Vec<_>>(),
            [(0, 1), (1, 1), (0, 2)]
        );
        assert_eq!(all[2].after, [heads.head(1)]);
        for (position, first) in [(0, 1), (2, 1), (3, 1), (4, 4), (6, 5)] {
            assert_eq!(
                store.read(position, 1 << 20).unwrap()[0].position,
                first,
                "from {position}"
            );
        }
        assert!(store.read(7, 1 << 20).unwrap().is_empty());
        for (position, first) in [(1, 1), (2, 1), (4, 4), (6, 5)] {
            for bytes_max in [0, 1] {
                let frames = store.read(position, bytes_max).unwrap();
                assert_eq!(
                    (frames.len(), frames[0].position),
                    (1, first),
                    "at least one, from {position}"
                );
            }
        }
    }
}

#[test]
fn an_append_follows_exactly_what_is_there() {
    let (_folder, stores) = stores();
    for store in &stores {
        let mut heads = Heads::new(store.as_ref());
        append(store.as_ref(), &mut heads, &[3]);
        let good = heads.batch(&[3], b"y");
        let wrong_sequence =
            Batch { before: vec![Head { sequence: 2, ..heads.head(3) }], ..good.clone() };
        let wrong_chain =
            Batch { before: vec![Head { chain: [0; 32], ..heads.head(3) }], ..good.clone() };
        for wrong in [&wrong_sequence, &wrong_chain] {
            assert!(matches!(store.append(wrong.clone()), Err(AppendError::NotCommitted(_))));
        }
        assert_eq!(store.read(1, 1 << 20).unwrap().len(), 1, "nothing was written");
        assert_eq!(store.append(good.clone()).unwrap(), 2);
        assert!(
            matches!(store.append(good.clone()), Err(AppendError::NotCommitted(_))),
            "the same again"
        );
    }
}

/// All that are kept of a partition, the newest first.
fn snapshots(store: &dyn Store, partition: u8) -> Vec<Snapshot> {
    let newest = store.snapshot(partition, u64::MAX).unwrap();
    std::iter::successors(newest, |it| store.snapshot(partition, it.head.sequence).unwrap())
        .collect()
}

#[test]
fn two_snapshots_are_kept_and_the_newest_covers_more() {
    let (_folder, stores) = stores();
    for store in &stores {
        assert!(snapshots(store.as_ref(), 5).is_empty());
        let snapshot = |sequence: u64| Snapshot {
            head: Head { partition: 5, sequence, chain: [7; 32] },
            position: sequence * 10,
            hash: [9; 32],
            body: vec![1, 2, 3],
        };
        for sequence in [1, 2, 3, 3] {
            store.put_snapshot(&snapshot(sequence)).unwrap();
        }
        assert_eq!(snapshots(store.as_ref(), 5), [snapshot(3), snapshot(2)]);
        store.extend_snapshot(5, 77).unwrap();
        store.extend_snapshot(6, 77).unwrap();
        assert_eq!(
            snapshots(store.as_ref(), 5),
            [Snapshot { position: 77, ..snapshot(3) }, snapshot(2)]
        );
        assert!(snapshots(store.as_ref(), 6).is_empty());
    }
}

#[test]
fn the_index_finds_requests_and_entries() {
    let (_folder, stores) = stores();
    let row = |caller: u8, request: &str, sequence: u64| IndexRow {
        caller: MerchantId::from_raw([caller; 16]),
        request: RequestId::parse(request).unwrap(),
        partition: 1,
        sequence,
    };
    for store in &stores {
        let mut heads = Heads::new(store.as_ref());
        append(store.as_ref(), &mut heads, &[1, 1, 2]);
        append(store.as_ref(), &mut heads, &[1]);
        assert_eq!(store.indexed().unwrap(), 0);
        let places =
            [(1, 1, 1), (2, 1, 1), (1, 3, 4)].map(|(partition, first_sequence, position)| {
                PlaceRow { partition, first_sequence, position }
            });
        let change = |first_sequence, last_sequence| ChangeRow {
            partition: 1,
            first_sequence,
            last_sequence,
        };
        let rows = IndexRows {
            requests: vec![row(1, "a", 1), row(2, "a", 2)],
            places: places.to_vec(),
            changes: vec![change(1, 2), change(1, 3), change(2, 9)],
        };
        store.index(&rows, 4).unwrap();
        let rows = IndexRows { requests: vec![row(1, "a", 9)], ..rows };
        store.index(&rows, 4).unwrap();
        assert_eq!(store.indexed().unwrap(), 4);
        let find = |caller: u8, request: &str| {
            store
                .find_request(
                    MerchantId::from_raw([caller; 16]),
                    &RequestId::parse(request).unwrap(),
                )
                .unwrap()
        };
        assert_eq!(find(1, "a"), Some(row(1, "a", 9)), "the last one stands");
        let last = |first_sequence| store.last_change(1, first_sequence).unwrap();
        assert_eq!([last(1), last(2), last(3)], [Some(3), Some(9), None]);
        assert_eq!(find(2, "a"), Some(row(2, "a", 2)));
        assert_eq!((find(1, "b"), find(3, "a")), (None, None));
        for (partition, sequence) in [(1, 1), (1, 2), (2, 1), (1, 3)] {
            assert_eq!(
                store.entry(partition, sequence).unwrap(),
                Some(entry(partition, sequence, b"x").bytes)
            );
        }
        assert_eq!((store.entry(1, 4).unwrap(), store.entry(7, 1).unwrap()), (None, None));
    }
}

#[test]
fn a_folder_keeps_everything_and_belongs_to_one_issuer_and_one_program() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path(), prefix()).unwrap();
    let mut heads = Heads::new(&store);
    append(&store, &mut heads, &[0, 1]);
    let snapshot =
        Snapshot { head: heads.head(1), position: 2, hash: [9; 32], body: vec![1, 2, 3] };
    store.put_snapshot(&snapshot).unwrap();
    let row = IndexRow {
        caller: MerchantId::from_raw([1; 16]),
        request: RequestId::parse("a").unwrap(),
        partition: 1,
        sequence: 1,
    };
    let place = PlaceRow { partition: 1, first_sequence: 1, position: 1 };
    let rows =
        IndexRows { requests: vec![row.clone()], places: vec![place], ..IndexRows::default() };
    store.index(&rows, 2).unwrap();
    let journal_id = store.journal_id();
    let second = SqliteStore::open(folder.path(), prefix()).unwrap_err().to_string();
    assert!(second.contains("in use"), "{second}");
    let before = store.read(1, 1 << 20).unwrap();
    drop(store);
    let other =
        SqliteStore::open(folder.path(), Prefix::parse("7200").unwrap()).unwrap_err().to_string();
    assert!(other.contains("71000001"), "{other}");
    let store = SqliteStore::open(folder.path(), prefix()).unwrap();
    assert_eq!((store.read(1, 1 << 20).unwrap(), store.journal_id()), (before, journal_id));
    assert_eq!(snapshots(&store, 1), [snapshot]);
    assert_eq!(
        (store.indexed().unwrap(), store.find_request(row.caller, &row.request).unwrap()),
        (2, Some(row))
    );
    assert_eq!(store.entry(1, 1).unwrap(), Some(entry(1, 1, b"x").bytes));
    // The fence knows the heads of before.
    assert!(matches!(
        store.append(Heads::new(&store).batch(&[0], b"z")),
        Err(AppendError::NotCommitted(_))
    ));
    assert_eq!(append(&store, &mut heads, &[0]), 3);
}

#[test]
fn a_full_disk_is_told_as_such_and_leaves_the_journal_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(folder.path(), prefix()).unwrap();
    let mut heads = Heads::new(&store);
    append(&store, &mut heads, &[0]);
    store.limit_pages(Some(40));
    let mut accepted = 1;
    let refused = loop {
        let batch = heads.batch(&[0], &[8; 30_000]);
        match store.append(batch.clone()) {
            Ok(_) => {
                heads.appended(&batch);
                accepted += 1;
            }
            Err(error) => break error,
        }
    };
    assert!(matches!(refused, AppendError::NotCommitted(_)), "{refused}");
    assert_eq!(store.read(1, 64 << 20).unwrap().len(), accepted);
    store.limit_pages(None);
    assert_eq!(append(&store, &mut heads, &[0]), u64::try_from(accepted).unwrap() + 1);
}

#[test]
fn damaged_frames_are_errors() {
    for bytes in [
        &[][..],
        &[2, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 0],
        &[1, 0, 0, 0, 0, 1, 0, 3, 1, 2, 3],
        &[1, 1, 0],
    ] {
        assert!(frame::decode(1, bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn the_heads_of_a_frame_are_those_of_its_entries() {
    let head = |partition, sequence| Head { partition, sequence, chain: [1; 32] };
    let entries = vec![entry(3, 1, b"a"), entry(4, 1, b"b"), entry(3, 2, b"c")];
    let with = |after: &[Head]| {
        frame::decode(
            1,
            &frame::encode(&Batch {
                before: Vec::new(),
                after: after.to_vec(),
                entries: entries.clone(),
            }),
        )
    };
    assert_eq!(with(&[head(3, 2), head(4, 1)]).unwrap().entries, entries);
    let wrong: [&[Head]; 6] = [
        &[head(3, 2)],
        &[head(3, 2), head(5, 1)],
        &[head(3, 1), head(4, 1)],
        &[head(3, 2), head(4, 1), head(4, 1)],
        &[head(3, 2), head(4, 1), head(5, 0)],
        &[head(3, 2), head(4, 1), head(5, 1)],
    ];
    for after in wrong {
        assert!(with(after).is_err(), "{after:?}");
    }
}

/// Something done to a store.
#[derive(Debug, Clone)]
enum Operation {
    Append(Vec<u8>),
    AppendStale(u8),
    Read(u64, usize),
    /// Of the partition as it stands: a store may believe its snapshots.
    Snapshot(u8, u8),
    /// Only when nothing has changed since, as the engine does it.
    Extend(u8),
    Index(u8, u8, u64),
    Find(u8, u8),
    /// Brings the places of all entries into the index, then reads one.
    Entry(u8, u64),
    /// Ends the program and starts it again.
    Reopen,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        4 => proptest::collection::vec(0_u8..4, 1..5).prop_map(Operation::Append),
        1 => (0_u8..4).prop_map(Operation::AppendStale),
        2 => (0_u64..30, 0_usize..200).prop_map(|(from, bytes)| Operation::Read(from, bytes)),
        1 => (0_u8..5, 0_u8..9).prop_map(|(partition, body)| Operation::Snapshot(partition, body)),
        1 => (0_u8..5).prop_map(Operation::Extend),
        1 => (0_u8..3, 0_u8..3, 1_u64..9).prop_map(|(caller, request, sequence)| Operation::Index(caller, request, sequence)),
        1 => (0_u8..3, 0_u8..3).prop_map(|(caller, request)| Operation::Find(caller, request)),
        2 => (0_u8..5, 0_u64..12).prop_map(|(partition, sequence)| Operation::Entry(partition, sequence)),
        1 => Just(Operation::Reopen),
    ]
}

/// Does it and says what came of it.
fn perform(store: &dyn Store, heads: &mut Heads, operation: &Operation) -> String {
    let caller = |it: u8| MerchantId::from_raw([it; 16]);
    let request = |it: u8| RequestId::parse(&format!("r{it}")).unwrap();
    match operation {
        Operation::Append(partitions) => {
            let batch = heads.batch(partitions, b"random");
            let answer = store.append(batch.clone());
            heads.appended(&batch);
            format!("{:?}", answer.unwrap())
        }
        Operation::AppendStale(partition) => {
            let mut batch = heads.batch(&[*partition], b"stale");
            batch.before[0].chain[0] ^= 1;
            format!("{}", matches!(store.append(batch.clone()), Err(AppendError::NotCommitted(_))))
        }
        Operation::Read(from, bytes) => {
            // How many bytes a frame counts is the store's; the first frame and the order are not.
            let frames = store.read(*from, *bytes).unwrap();
            format!("{:?}", frames.first())
        }
        Operation::Snapshot(partition, body) => {
            let (head, position) = (heads.head(*partition), end(store));
            let snapshot = Snapshot { head, position, hash: [2; 32], body: vec![*body] };
            store.put_snapshot(&snapshot).unwrap();
            format!("{:?}", snapshots(store, *partition))
        }
        Operation::Extend(partition) => {
            let newest = snapshots(store, *partition).into_iter().next();
            if newest.is_some_and(|it| it.head == heads.head(*partition)) {
                store.extend_snapshot(*partition, end(store)).unwrap();
            }
            format!("{:?}", snapshots(store, *partition))
        }
        Operation::Index(by, id, sequence) => {
            let row = IndexRow {
                caller: caller(*by),
                request: request(*id),
                partition: 0,
                sequence: *sequence,
            };
            let change =
                ChangeRow { partition: 0, first_sequence: *sequence / 2, last_sequence: *sequence };
            let rows =
                IndexRows { requests: vec![row], changes: vec![change], ..IndexRows::default() };
            store.index(&rows, *sequence).unwrap();
            let changed = store.last_change(0, *sequence / 2).unwrap();
            format!("{} {changed:?}", store.indexed().unwrap())
        }
        Operation::Find(by, id) => {
            format!("{:?}", store.find_request(caller(*by), &request(*id)).unwrap())
        }
        Operation::Entry(partition, sequence) => {
            let frames = store.read(1, usize::MAX).unwrap();
            let places = frames.iter().flat_map(|it| places(it)).collect();
            let rows = IndexRows { places, ..IndexRows::default() };
            store.index(&rows, store.indexed().unwrap()).unwrap();
            format!("{:?}", store.entry(*partition, *sequence).unwrap())
        }
        Operation::Reopen => format!("{:?} {:?}", store.journal_id(), store.indexed().unwrap()),
    }
}

/// Position of the last entry.
fn end(store: &dyn Store) -> u64 {
    store.read(1, usize::MAX).unwrap().last().map_or(0, |it| it.last_position())
}

/// Where the first entry of each partition of a frame lies.
fn places(frame: &Frame) -> Vec<PlaceRow> {
    let mut seen = std::collections::BTreeSet::new();
    let firsts = frame.entries.iter().filter(|it| seen.insert(it.partition));
    firsts
        .map(|it| PlaceRow {
            partition: it.partition,
            first_sequence: it.sequence,
            position: frame.position,
        })
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn random_operations_get_the_same_answers(operations in proptest::collection::vec(operation(), 1..40)) {
        let (folder, mut stores) = stores();
        let mut heads: Vec<_> = stores.iter().map(|store| Heads::new(store.as_ref())).collect();
        for operation in &operations {
            if matches!(operation, Operation::Reopen) {
                drop(stores.remove(0));
                stores.insert(0, Box::new(SqliteStore::open(folder.path(), prefix()).unwrap()));
            }
            let answers: Vec<_> = stores.iter().zip(&mut heads).map(|(store, heads)| perform(store.as_ref(), heads, operation)).collect();
            prop_assert_eq!(&answers[0], &answers[1], "{:?}", operation);
        }
        let all: Vec<_> = stores.iter().map(|store| store.read(0, usize::MAX).unwrap()).collect();
        prop_assert_eq!(&all[0], &all[1]);
    }
}
