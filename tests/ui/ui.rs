//! What the macros and the compiler say about mistakes: each message at the user's token, with its fix.

#[test]
fn mistakes_are_explained_where_they_are_made() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("mistakes/*/*.rs");
}
