//! A whole cluster in one thread, in virtual time, from one seed.
