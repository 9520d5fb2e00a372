//! What becomes of calls when a client is closed.

use grains_core::AccessKind;

use super::*;

const METHOD: MethodInfo = MethodInfo::new("add", AccessKind::Exclusive);

fn call() -> Call {
    let deadline = Instant::default() + Duration::from_secs(30);
    Call {
        grain: GrainId::new("desk", "x"),
        hash: 1,
        method: &METHOD,
        args: [].into(),
        sink: None,
        request: RequestContext::new(),
        deadline,
        timeout: Duration::from_secs(30),
        returned: None,
        retry_at: Instant::default(),
    }
}

fn returned(lines: &mut Lines) -> Ends {
    lines.returned(1, call(), CallError::NotReady { why: "so".into() }, Instant::default())
}

#[test]
fn a_call_that_comes_back_to_a_client_that_was_closed_meanwhile_ends_at_once() {
    let mut lines = Lines::new("shop".to_owned(), Gateways::new(1, vec!["a:1".to_owned()]), 1, 10);
    let ends = returned(&mut lines);
    assert_eq!((ends.failed.len(), ends.unswept, lines.calls()), (0, true, 1));
    assert_eq!(lines.close().failed.len(), 1);
    let ends = returned(&mut lines);
    assert!(matches!(ends.failed[..], [(_, CallError::Stopped { outcome: Outcome::NotExecuted })]));
    assert_eq!(lines.calls(), 0, "nobody would ever look at it");
}
