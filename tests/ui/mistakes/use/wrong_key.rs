use grains::Ctx;

#[grains::rpc_trait(key = u64)]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
}

fn read<G: grains::Grain>(ctx: Ctx<G>) {
    let _ = ctx.get::<ClockRef>("seven");
}

fn main() {}
