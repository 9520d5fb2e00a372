//! Values of any length, names of any letters.

use grains_core::{
    GrainId, KEY_BYTES_MAX, Version,
    store::{STATE_BYTES_MAX, Stored},
};

use super::{
    Harness, Verdict,
    tools::{TOKEN, ensure, grain, holds, is, list, removal, set, stored, write},
};

/// A value is any bytes, from none, which is not *removed*, to [`STATE_BYTES_MAX`], several in a set.
pub async fn values_come_back_as_they_were<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    let ann = grain("ann");
    let lengths = [0, 1, 4096, STATE_BYTES_MAX - 1, STATE_BYTES_MAX, 3, 0];
    for (version, bytes) in (0..).zip(lengths) {
        let (s, t) = (pattern(bytes, 1), pattern(bytes, 7));
        stored(&*store, set(&ann, TOKEN, [write("s", version, s.clone()), write("t", version, t.clone())])).await?;
        holds(&*store, &ann, "s", version + 1, &s).await?;
        holds(&*store, &ann, "t", version + 1, &t).await?;
    }
    let written = lengths.len() as u64;
    stored(&*store, set(&ann, TOKEN, [removal("s", written)])).await?;
    is(&*store, &ann, "s", Some(Stored { version: Version(written + 1), value: None })).await?;
    holds(&*store, &ann, "t", written, b"").await
}

/// Keys and names are any text, and no two of them are the same: not for a separator, an escape, a NUL or a case.
pub async fn odd_names_are_names<H: Harness>(harness: &H) -> Verdict {
    let store = harness.open().await;
    let long = "k".repeat(KEY_BYTES_MAX);
    let long_too = format!("{}l", &long[1..]);
    let texts = [
        "", " ", "a", "A", "a ", "a/b", "a%2Fb", "a%2fb", "%", "%25", "%%", "a\0", "a\0b", "\0", "\0\0", "\u{1}", "..",
        "/", "//", "\\", "'; --", "\"", "*", "a:b", "a|b", "ä", "a\u{308}", "日本", "🦀", "\u{FFFF}", "\n", &long,
        &long_too,
    ];
    for key in texts {
        let grain = GrainId::new("kit", key);
        let writes: Vec<_> = texts.iter().map(|name| write(name, 0, format!("{key:?} {name:?}"))).collect();
        stored(&*store, set(&grain, TOKEN, writes)).await?;
    }
    for key in texts {
        let grain = GrainId::new("kit", key);
        for name in texts {
            holds(&*store, &grain, name, 1, format!("{key:?} {name:?}").as_bytes()).await?;
        }
    }
    let mut wanted = texts.to_vec();
    wanted.sort_unstable();
    let keys = list(&*store, "kit", None, usize::MAX).await?;
    ensure(keys == wanted, || format!("a list of odd keys must be\n{wanted:?}, not\n{keys:?}"))?;
    for pair in wanted.windows(2) {
        let next = list(&*store, "kit", Some(pair[0]), 1).await?;
        ensure(next == pair[1..], || format!("after {:?} must come {:?}, not {next:?}", pair[0], pair[1]))?;
    }
    Ok(())
}

/// Bytes that are neither text nor the same everywhere.
fn pattern(bytes: usize, seed: usize) -> Vec<u8> {
    (0..bytes).map(|i| ((i * 31 + seed) ^ (i >> 8)) as u8).collect()
}
