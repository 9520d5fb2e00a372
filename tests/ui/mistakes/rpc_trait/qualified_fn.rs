#[grains::rpc_trait]
trait Chat {
    async unsafe fn raw(&self) -> grains::Result<()>;
    async extern "C" fn c(&self) -> grains::Result<()>;
    const fn max(&self) -> grains::Result<()>;
}

fn main() {}
