mod unknown {
    #[grains::main(threads = 4)]
    async fn main() {}
}

mod zero {
    #[grains::main(worker_threads = 0)]
    async fn main() {}
}

mod text {
    #[grains::main(worker_threads = "4", worker_threads = 2)]
    async fn main() {}
}

fn main() {}
