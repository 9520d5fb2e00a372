mod not_async {
    #[grains::main]
    fn main() {}
}

mod not_main {
    #[grains::main]
    async fn start() {}
}

mod arguments {
    #[grains::main]
    async fn main(args: Vec<String>) {
        drop(args);
    }
}

mod generic {
    #[grains::main]
    async fn main<T>() {}
}

mod qualified {
    #[grains::main]
    async unsafe extern "C" fn main() {}
}

mod not_a_function {
    #[grains::main]
    struct Main;
}

fn main() {}
