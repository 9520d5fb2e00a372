//! Versions, tokens, sets and removals.

use grains_core::{
    Version,
    store::{CommitError, Stored},
};

use super::{
    Harness, Verdict,
    tools::{TOKEN, conflicts, grain, holds, is, refused, removal, set, stored, token, write},
};

/// What was never written is absent, under any name.
pub async fn a_new_state_is_absent<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    let ann = grain("ann");
    is(&*store, &ann, "s", None).await?;
    stored(&*store, set(&ann, TOKEN, [write("s", 0, "x")])).await?;
    is(&*store, &ann, "other", None).await?;
    is(&*store, &grain("bob"), "s", None).await
}

/// A write is what the next load gives, one version later, and touches nothing else.
pub async fn a_write_is_read_back<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    let (ann, bob) = (grain("ann"), grain("bob"));
    stored(&*store, set(&ann, TOKEN, [write("s", 0, "ann 1")])).await?;
    stored(&*store, set(&bob, TOKEN, [write("s", 0, "bob 1")])).await?;
    stored(&*store, set(&ann, TOKEN, [write("s", 1, "ann 2")])).await?;
    stored(&*store, set(&ann, TOKEN, [write("t", 0, "ann t"), write("s", 2, "ann 3")])).await?;
    holds(&*store, &ann, "s", 3, b"ann 3").await?;
    holds(&*store, &ann, "t", 1, b"ann t").await?;
    holds(&*store, &bob, "s", 1, b"bob 1").await
}

/// A write must name the version it replaces. Any other, below or above, conflicts and changes nothing.
pub async fn a_version_is_written_once<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    let ann = grain("ann");
    conflicts(&*store, set(&ann, TOKEN, [write("s", 1, "early")]), "s", 0).await?;
    is(&*store, &ann, "s", None).await?;
    stored(&*store, set(&ann, TOKEN, [write("s", 0, "one")])).await?;
    stored(&*store, set(&ann, TOKEN, [write("s", 1, "two")])).await?;
    for expected in [0, 1, 3, u64::MAX] {
        conflicts(&*store, set(&ann, TOKEN, [write("s", expected, "wrong")]), "s", 2).await?;
        conflicts(&*store, set(&ann, TOKEN, [removal("s", expected)]), "s", 2).await?;
        // A larger token is no licence to skip what it has not read.
        conflicts(&*store, set(&ann, token(9, 9), [write("s", expected, "wrong")]), "s", 2).await?;
    }
    holds(&*store, &ann, "s", 2, b"two").await
}

/// Once a token has written to a grain, smaller ones are refused there: for every state, and before versions are
/// compared. Equal and larger ones pass, and a write that was refused fences nobody.
pub async fn a_smaller_token_is_refused<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    let ann = grain("ann");
    let newest = token(5, 3);
    let fenced = |ours| CommitError::Fenced { ours, newest };
    stored(&*store, set(&ann, newest, [write("s", 0, "one")])).await?;
    // The epoch decides before the counter.
    for ours in [token(5, 2), token(4, 9), token(0, u64::MAX)] {
        refused(&*store, set(&ann, ours, [write("s", 1, "old")]), fenced(ours)).await?;
        refused(&*store, set(&ann, ours, [write("never written", 0, "old")]), fenced(ours)).await?;
        refused(&*store, set(&ann, ours, [write("s", 7, "old")]), fenced(ours)).await?;
        refused(&*store, set(&ann, ours, [removal("s", 1)]), fenced(ours)).await?;
    }
    holds(&*store, &ann, "s", 1, b"one").await?;
    is(&*store, &ann, "never written", None).await?;
    conflicts(&*store, set(&ann, token(8, 0), [write("s", 7, "wrong")]), "s", 1).await?;
    stored(&*store, set(&ann, newest, [write("s", 1, "equal passes")])).await?;
    stored(&*store, set(&ann, token(6, 0), [write("s", 2, "larger passes")])).await?;
    refused(
        &*store,
        set(&ann, newest, [write("s", 3, "old")]),
        CommitError::Fenced { ours: newest, newest: token(6, 0) },
    )
    .await?;
    stored(&*store, set(&grain("bob"), token(1, 1), [write("s", 0, "of another grain")])).await
}

/// A set is stored whole or not at all, wherever in it the conflict is.
pub async fn a_set_is_whole<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    let ann = grain("ann");
    let one = [write("a", 0, "a1"), write("b", 0, "b1"), write("c", 0, "c1")];
    stored(&*store, set(&ann, TOKEN, one)).await?;
    for (wrong, name) in ["a", "b", "c"].into_iter().enumerate() {
        let mut writes = vec![write("a", 1, "half"), write("b", 1, "half"), removal("c", 1), write("new", 0, "half")];
        writes[wrong].expected = Version(4);
        conflicts(&*store, set(&ann, token(9, 9), writes), name, 1).await?;
        for (name, value) in [("a", b"a1"), ("b", b"b1"), ("c", b"c1")] {
            holds(&*store, &ann, name, 1, value).await?;
        }
        is(&*store, &ann, "new", None).await?;
    }
    stored(&*store, set(&ann, TOKEN, [write("a", 1, "a2"), removal("b", 1), write("c", 1, "c2")])).await?;
    holds(&*store, &ann, "a", 2, b"a2").await?;
    is(&*store, &ann, "b", Some(Stored { version: Version(2), value: None })).await?;
    holds(&*store, &ann, "c", 2, b"c2").await
}

/// A removal is a write: it has a version, and whoever has missed it conflicts. It also fences.
pub async fn a_removal_keeps_the_version<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    let ann = grain("ann");
    let removed = |version| Some(Stored { version: Version(version), value: None });
    stored(&*store, set(&ann, TOKEN, [write("s", 0, "one")])).await?;
    stored(&*store, set(&ann, token(2, 0), [removal("s", 1)])).await?;
    is(&*store, &ann, "s", removed(2)).await?;
    conflicts(&*store, set(&ann, token(2, 0), [write("s", 0, "as if new")]), "s", 2).await?;
    conflicts(&*store, set(&ann, token(2, 0), [write("s", 1, "has missed it")]), "s", 2).await?;
    let fenced = CommitError::Fenced { ours: TOKEN, newest: token(2, 0) };
    refused(&*store, set(&ann, TOKEN, [write("s", 2, "old")]), fenced).await?;
    stored(&*store, set(&ann, token(2, 0), [removal("s", 2)])).await?;
    is(&*store, &ann, "s", removed(3)).await?;
    stored(&*store, set(&ann, token(2, 0), [write("s", 3, "again")])).await?;
    holds(&*store, &ann, "s", 4, b"again").await?;
    stored(&*store, set(&ann, token(2, 0), [removal("never written", 0)])).await?;
    is(&*store, &ann, "never written", removed(1)).await
}
