//! How often one payment asks the allocator, step by step: the mean and the most over many payments.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what it is given is right")]

use allocation_counter::measure;
use warifu_core::layout::Writer;

#[path = "../tests/it/bench.rs"]
#[expect(dead_code, reason = "the tests' own, with more than is needed here")]
mod bench;
#[path = "shared/payers.rs"]
mod payers;

/// Counts of one step.
struct Step {
    name: &'static str,
    counts: Vec<u64>,
}

impl Step {
    fn new(name: &'static str) -> Self {
        Self { name, counts: Vec::new() }
    }

    fn count(&mut self, step: impl FnOnce()) {
        self.counts.push(measure(step).count_total);
    }

    fn print(&self) {
        let hundredths = 100 * self.counts.iter().sum::<u64>() / self.counts.len() as u64;
        let (whole, rest, most) = (hundredths / 100, hundredths % 100, self.counts.iter().max());
        println!("{:<8} {whole}.{rest:02} on average, {} at most", self.name, most.unwrap());
    }
}

fn main() {
    let (mut bench, pays) = payers::payers();
    let mut steps = ["decide", "apply", "encode", "undo"].map(Step::new);
    let [decide, apply, encode, undo] = &mut steps;
    // The lane keeps its bytes' room from batch to batch too.
    let mut to = Writer(Vec::with_capacity(4096));
    for pay in &pays {
        decide.count(|| drop(bench.decide(pay).unwrap()));
        let entries = payers::entries(&bench, std::slice::from_ref(pay));
        let entry = entries.first().unwrap();
        apply.count(|| bench.state.apply(entry, &bench.vault, &mut bench.undo).unwrap());
        encode.count(|| {
            to.0.clear();
            entry.encode(&mut to);
        });
        undo.count(|| bench.undo.undo(&mut bench.state, 0));
        // And for good, so that the next one finds a state that has grown.
        bench.state.apply(entry, &bench.vault, &mut bench.undo).unwrap();
        bench.undo.committed();
    }
    println!("allocations of one payment, over {} payments", pays.len());
    steps.iter().for_each(Step::print);
}
