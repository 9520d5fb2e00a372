//! Histories that have an order, and histories that have none.

use std::time::Duration;

use super::{
    super::{
        history::{History, OpId, Outcome},
        spec::{Counter, CounterOp, Register, RegisterOp, RegisterOutput},
    },
    *,
};

type Counters = History<&'static str, CounterOp, u64>;
type Registers = History<&'static str, RegisterOp<u64>, RegisterOutput<u64>>;

const AT: fn(u64) -> Duration = Duration::from_millis;
const READ: RegisterOp<u64> = RegisterOp::Read;

/// An operation from `begin` to `end` with nothing beside it.
fn add(counters: &Counters, amount: u64, sum: u64, at: u64) {
    let op = counters.begin("x", CounterOp::Add(amount), AT(at));
    counters.end(op, sum, AT(at + 1));
}

fn ended(registers: &Registers, input: RegisterOp<u64>, output: RegisterOutput<u64>, at: u64) {
    let op = registers.begin("x", input, AT(at));
    registers.end(op, output, AT(at + 1));
}

fn registers(history: &Registers) -> Result<Stats, Violation> {
    history.check::<Register<u64>>(&"x")
}

fn counters(history: &Counters) -> Result<Stats, Violation> {
    history.check::<Counter>(&"x")
}

#[test]
fn a_read_beside_a_write_sees_the_value_before_or_after_it() {
    for (value, fine) in [(0, true), (1, true), (2, false)] {
        let history = Registers::default();
        let write = history.begin("x", RegisterOp::Write(1), AT(1));
        ended(&history, READ, RegisterOutput::Value(value), 2);
        history.end(write, RegisterOutput::Written, AT(4));
        assert_eq!(registers(&history).is_ok(), fine, "read {value}");
    }
}

#[test]
fn a_stale_read_is_found() {
    let history = Registers::default();
    ended(&history, RegisterOp::Write(1), RegisterOutput::Written, 1);
    ended(&history, RegisterOp::Write(2), RegisterOutput::Written, 3);
    ended(&history, READ, RegisterOutput::Value(1), 5);
    let violation = registers(&history).unwrap_err();
    assert_eq!(
        violation.to_string(),
        r#"linearizable: key "x": no order of the operations explains
    #2 Read -> Value(1), 5ms to 6ms
  possible states before it and those beside it: [2]
  ended before it:
    #0 Write(1) -> Written, 1ms to 2ms
    #1 Write(2) -> Written, 3ms to 4ms"#
    );
}

#[test]
fn a_value_that_two_reads_saw_cannot_go_back_to_the_one_before() {
    let history = Registers::default();
    let write = history.begin("x", RegisterOp::Write(1), AT(1));
    ended(&history, READ, RegisterOutput::Value(1), 2);
    ended(&history, READ, RegisterOutput::Value(0), 4);
    history.end(write, RegisterOutput::Written, AT(6));
    assert_eq!(registers(&history).unwrap_err().kind, Rule::Linearizable);
}

#[test]
fn two_swaps_from_one_value_cannot_both_succeed() {
    for (second, fine) in [(true, false), (false, true)] {
        let history = Registers::default();
        let swaps = [1, 2].map(|to| history.begin("x", RegisterOp::Swap { from: 0, to }, AT(1)));
        history.end(swaps[0], RegisterOutput::Swapped(true), AT(2));
        history.end(swaps[1], RegisterOutput::Swapped(second), AT(2));
        assert_eq!(registers(&history).is_ok(), fine);
    }
}

#[test]
fn a_lost_update_is_found() {
    let history = Counters::default();
    add(&history, 1, 1, 1);
    add(&history, 1, 1, 3);
    assert_eq!(counters(&history).unwrap_err().kind, Rule::Linearizable);
}

#[test]
fn an_addition_that_came_twice_is_found() {
    let history = Counters::default();
    add(&history, 2, 2, 1);
    add(&history, 1, 5, 3);
    assert_eq!(counters(&history).unwrap_err().kind, Rule::Linearizable);
}

#[test]
fn an_unknown_addition_may_come_late_or_never_but_not_twice() {
    for (sums, fine) in [([1, 2], true), ([1, 5], true), ([4, 5], true), ([4, 8], false), ([4, 2], false)] {
        let history = Counters::default();
        let lost = history.begin("x", CounterOp::Add(3), AT(0));
        history.unknown(lost);
        add(&history, 1, sums[0], 1);
        add(&history, 1, sums[1], 3);
        assert_eq!(counters(&history).is_ok(), fine, "{sums:?}");
    }
}

#[test]
fn one_sum_that_open_additions_explain_in_two_ways_leaves_both_ways_open() {
    // 6 is 1 + 5 or 2 + 4, and what is left afterwards is the other two.
    for (next, fine) in [(7, true), (8, true), (10, true), (11, true), (12, true), (9, false), (13, false)] {
        let history = Counters::default();
        for amount in [1, 2, 4, 5] {
            history.unknown(history.begin("x", CounterOp::Add(amount), AT(0)));
        }
        for (sum, at) in [(6, 1), (next, 3)] {
            let read = history.begin("x", CounterOp::Read, AT(at));
            history.end(read, sum, AT(at + 1));
        }
        assert_eq!(counters(&history).is_ok(), fine, "6, then {next}");
    }
}

#[test]
fn an_unknown_operation_has_no_effect_before_its_begin() {
    let history = Counters::default();
    add(&history, 1, 4, 1);
    let _open = history.begin("x", CounterOp::Add(3), AT(3));
    add(&history, 1, 5, 4);
    let violation = counters(&history).unwrap_err();
    assert!(violation.message.contains("#0 Add(1) -> 4"), "{violation}");
}

#[test]
fn an_operation_that_never_ran_and_is_seen_is_found_and_named() {
    for (sum, fine) in [(1, true), (4, false)] {
        let history = Counters::default();
        let refused = history.begin("x", CounterOp::Add(3), AT(0));
        history.never_ran(refused);
        add(&history, 1, sum, 1);
        assert_eq!(counters(&history).is_ok(), fine, "{sum}");
        if let Err(violation) = counters(&history) {
            assert!(violation.message.contains("reported as not executed:\n    #0 Add(3)"), "{violation}");
        }
    }
}

#[test]
fn keys_have_nothing_to_do_with_each_other() {
    let history = Counters::default();
    for key in ["x", "y", "z"] {
        let op = history.begin(key, CounterOp::Add(1), AT(1));
        history.end(op, if key == "y" { 2 } else { 1 }, AT(2));
    }
    let violations = history.verdict::<Counter>();
    assert_eq!(violations.len(), 1);
    assert!(violations[0].message.starts_with("key \"y\""));
}

#[test]
#[should_panic(expected = "has an outcome already")]
fn an_operation_has_one_outcome() {
    let history = Counters::default();
    let op = history.begin("x", CounterOp::Read, AT(1));
    history.never_ran(op);
    history.end(op, 0, AT(2));
}

#[test]
fn a_search_that_reaches_its_bound_is_no_success() {
    let history = world::<Register<u64>>(&mut Chance(1), &World { operations: 50, ..World::default() }, some_register);
    let operations = history.operations(&"x");
    assert!(check::<Register<u64>>(&"x", &operations).is_ok());
    let violation = check_within::<Register<u64>>(&"x", &operations, 20).unwrap_err();
    assert_eq!(violation.kind, Rule::Decided);
    assert!(violation.message.starts_with("key \"x\": gave up after "), "{violation}");
}

#[test]
fn tiny_histories_are_judged_as_by_trying_every_order() {
    let (mut good, mut bad) = (0, 0);
    for seed in 0..6000 {
        let mut chance = Chance(seed);
        let tiny = World { operations: 7, clients: 3, unknown_percent: 30, lies_percent: 12 };
        let verdicts = if seed % 2 == 0 {
            let history = world::<Register<u64>>(&mut chance, &tiny, few_values);
            compare::<Register<u64>>(&history.operations(&"x"))
        } else {
            let history = world::<Counter>(&mut chance, &tiny, some_counter);
            compare::<Counter>(&history.operations(&"x"))
        };
        assert_eq!(verdicts.0, verdicts.1, "seed {seed}");
        *if verdicts.0 { &mut good } else { &mut bad } += 1;
    }
    assert!(good > 1000 && bad > 1000, "{good} good, {bad} bad");
}

#[test]
fn thousands_of_operations_with_dozens_of_open_ones_take_few_steps() {
    for seed in 0..4 {
        let large = World { operations: 5000, clients: 10, unknown_percent: 1, lies_percent: 0 };
        let stats = [
            registers(&world::<Register<u64>>(&mut Chance(seed), &large, some_register)).unwrap(),
            counters(&world::<Counter>(&mut Chance(seed), &large, some_counter)).unwrap(),
        ];
        for stats in stats {
            assert!(stats.open > 25 && stats.steps < 100_000, "seed {seed}: {stats:?}");
        }
    }
}

#[test]
fn one_lie_among_thousands_of_answers_is_found() {
    for seed in 0..4 {
        let large = World { operations: 3000, clients: 10, unknown_percent: 1, lies_percent: 0 };
        let history = world::<Counter>(&mut Chance(seed), &large, some_counter);
        let mut operations = history.operations(&"x");
        let lie = operations.iter().rposition(|op| op.input != CounterOp::Read && op.is_ended()).unwrap();
        let Outcome::Ended { output, .. } = &mut operations[lie].outcome else { unreachable!() };
        *output -= 1;
        let violation = check::<Counter>(&"x", &operations).unwrap_err();
        assert_eq!(violation.kind, Rule::Linearizable, "seed {seed}: {violation}");
    }
}

fn compare<S: Spec>(operations: &[Operation<S::Input, S::Output>]) -> (bool, bool) {
    (check::<S>(&"x", operations).is_ok(), any_order::<S>(&S::init(), operations, &mut vec![false; operations.len()]))
}

/// Whether some order of those that are not done explains all answers, by trying each.
fn any_order<S: Spec>(state: &S::State, operations: &[Operation<S::Input, S::Output>], done: &mut [bool]) -> bool {
    let left = || operations.iter().zip(done.iter()).filter(|(_, done)| !**done).map(|(operation, _)| operation);
    let Some(first_end) = left().filter_map(Operation::ended).min() else { return true };
    (0..operations.len()).any(|next| {
        let operation = &operations[next];
        let (after, answer) = S::step(state, &operation.input);
        let fits = match &operation.outcome {
            Outcome::Ended { output, .. } => *output == answer,
            Outcome::Open | Outcome::Unknown => true,
            Outcome::NeverRan => false,
        };
        if done[next] || operation.begun > first_end || !fits {
            return false;
        }
        done[next] = true;
        let found = any_order::<S>(&after, operations, done);
        done[next] = false;
        found
    })
}

/// Some clients that ask one thing, which is as linearizable as can be but for its lies.
struct World {
    operations: u64,
    clients: usize,
    unknown_percent: u64,
    lies_percent: u64,
}

/// What a client of a [`World`] is waiting for.
enum Asked<S: Spec> {
    Idle,
    Begun(OpId, S::Input),
    Done(OpId, S::Output),
}

fn world<S: Spec>(
    chance: &mut Chance,
    world: &World,
    mut ask: impl FnMut(&mut Chance, u64) -> S::Input,
) -> History<&'static str, S::Input, S::Output> {
    let history = History::default();
    let mut state = S::init();
    let mut last = None;
    let mut clients: Vec<Asked<S>> = (0..world.clients).map(|_| Asked::Idle).collect();
    let mut delayed = Vec::new();
    let mut begun = 0;
    for at in 0.. {
        if begun == world.operations && clients.iter().all(|client| matches!(client, Asked::Idle)) {
            break;
        }
        let client = chance.below(world.clients as u64) as usize;
        if !delayed.is_empty() && chance.percent(5) {
            let input = delayed.swap_remove(chance.below(delayed.len() as u64) as usize);
            state = S::step(&state, &input).0;
        }
        clients[client] = match std::mem::replace(&mut clients[client], Asked::Idle) {
            Asked::Idle if begun < world.operations => {
                begun += 1;
                let input = ask(chance, begun);
                Asked::Begun(history.begin("x", input.clone(), AT(at)), input)
            }
            Asked::Idle => Asked::Idle,
            Asked::Begun(op, input) if chance.percent(world.unknown_percent) => {
                history.unknown(op);
                if chance.percent(60) {
                    delayed.push(input);
                }
                Asked::Idle
            }
            Asked::Begun(op, input) => {
                let (after, output) = S::step(&state, &input);
                state = after;
                Asked::Done(op, output)
            }
            Asked::Done(op, output) => {
                let lie = last.replace(output.clone()).filter(|_| chance.percent(world.lies_percent));
                history.end(op, lie.unwrap_or(output), AT(at));
                Asked::Idle
            }
        };
    }
    history
}

fn some_register(chance: &mut Chance, unique: u64) -> RegisterOp<u64> {
    match chance.below(10) {
        0..5 => RegisterOp::Read,
        5..9 => RegisterOp::Write(unique),
        _ => RegisterOp::Swap { from: unique.saturating_sub(chance.below(8)), to: unique + 1_000_000 },
    }
}

/// Values that come again, so that orders differ in who wrote what.
fn few_values(chance: &mut Chance, _: u64) -> RegisterOp<u64> {
    let [from, to] = [chance.below(3), chance.below(3)];
    match chance.below(5) {
        0 | 1 => RegisterOp::Read,
        2 | 3 => RegisterOp::Write(to),
        _ => RegisterOp::Swap { from, to },
    }
}

fn some_counter(chance: &mut Chance, _: u64) -> CounterOp {
    match chance.below(4) {
        0 => CounterOp::Read,
        amount => CounterOp::Add(amount),
    }
}

/// SplitMix64 (Steele, Lea & Flood, 2014).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn percent(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

impl Default for World {
    fn default() -> Self {
        World { operations: 100, clients: 5, unknown_percent: 2, lies_percent: 0 }
    }
}

impl<I, O> Operation<I, O> {
    fn ended(&self) -> Option<u64> {
        match self.outcome {
            Outcome::Ended { event, .. } => Some(event),
            _ => None,
        }
    }

    fn is_ended(&self) -> bool {
        self.ended().is_some()
    }
}

impl<K: Clone + Ord + Debug, I: Clone, O: Clone> History<K, I, O> {
    fn operations(&self, key: &K) -> Vec<Operation<I, O>> {
        self.by_key().remove(key).unwrap_or_default()
    }
}
