//! Listing the grains of a type.

use grains_core::{GrainId, store::Store};

use super::{
    Harness, Verdict,
    tools::{KIND, TOKEN, ensure, grain, list, removal, set, stored, token, write},
};

/// A list is in the order of the bytes of its keys, each once however many states it has, and `after` and `limit` give
/// it in pages.
pub async fn a_list_is_ordered_and_comes_in_pages<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    lists(&*store, KIND, None, 10, &[]).await?;
    let keys = ["b", "10", "a", "B", "2", "ab", "z"];
    for key in keys {
        stored(&*store, set(&grain(key), TOKEN, [write("s", 0, "x"), write("t", 0, "y")])).await?;
    }
    let wanted = ["10", "2", "B", "a", "ab", "b", "z"];
    lists(&*store, KIND, None, 100, &wanted).await?;
    lists(&*store, KIND, None, 3, &wanted[..3]).await?;
    lists(&*store, KIND, Some("B"), 3, &wanted[3..6]).await?;
    lists(&*store, KIND, Some("b"), 3, &wanted[6..]).await?;
    lists(&*store, KIND, Some("z"), 3, &[]).await?;
    // A key that is not there is a place all the same.
    lists(&*store, KIND, Some(""), 1, &wanted[..1]).await?;
    lists(&*store, KIND, Some("aa"), 2, &wanted[4..6]).await?;
    lists(&*store, KIND, Some("zz"), 2, &[]).await?;
    lists(&*store, KIND, None, 0, &[]).await
}

/// A list has the grains of its own type only, also where one type's name begins with another's.
pub async fn a_list_keeps_types_apart<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    let types = ["a", "ab", "a/b", "b", "A"];
    for grain_type in types {
        for key in ["1", "b/2", "b2"] {
            let grain = GrainId::new(grain_type, format!("{key} of {grain_type}"));
            stored(&*store, set(&grain, TOKEN, [write("s", 0, "x")])).await?;
        }
    }
    for grain_type in types {
        let wanted = ["1", "b/2", "b2"].map(|key| format!("{key} of {grain_type}"));
        let wanted: Vec<_> = wanted.iter().map(String::as_str).collect();
        lists(&*store, grain_type, None, 100, &wanted).await?;
        lists(&*store, grain_type, Some(wanted[1]), 100, &wanted[2..]).await?;
    }
    lists(&*store, "", None, 100, &[]).await?;
    lists(&*store, "c", None, 100, &[]).await
}

/// A grain is in the list while any of its states has a value.
pub async fn a_list_skips_what_was_removed<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    let ann = grain("ann");
    for key in ["ann", "bob", "cid"] {
        stored(&*store, set(&grain(key), TOKEN, [write("s", 0, "x"), write("t", 0, "")])).await?;
    }
    stored(&*store, set(&ann, TOKEN, [removal("s", 1)])).await?;
    lists(&*store, KIND, None, 100, &["ann", "bob", "cid"]).await?;
    stored(&*store, set(&ann, TOKEN, [removal("t", 1)])).await?;
    lists(&*store, KIND, None, 100, &["bob", "cid"]).await?;
    // Pages are filled from what is left.
    lists(&*store, KIND, None, 1, &["bob"]).await?;
    stored(&*store, set(&ann, TOKEN, [removal("t", 2)])).await?;
    stored(&*store, set(&grain("dan"), TOKEN, [removal("s", 0)])).await?;
    lists(&*store, KIND, None, 100, &["bob", "cid"]).await?;
    // A write that was refused brings nobody back.
    let refused = store.commit(set(&ann, token(0, 0), [write("s", 2, "x")])).await;
    ensure(refused.is_err(), || "a smaller token must be refused".into())?;
    lists(&*store, KIND, None, 100, &["bob", "cid"]).await?;
    stored(&*store, set(&ann, TOKEN, [write("s", 2, "x"), removal("t", 3)])).await?;
    lists(&*store, KIND, None, 100, &["ann", "bob", "cid"]).await
}

async fn lists(store: &impl Store, grain_type: &str, after: Option<&str>, limit: usize, wanted: &[&str]) -> Verdict {
    let found = list(store, grain_type, after, limit).await?;
    ensure(found == wanted, || {
        format!("a list of {grain_type:?} after {after:?}, at most {limit}, must be {wanted:?}, not {found:?}")
    })
}
