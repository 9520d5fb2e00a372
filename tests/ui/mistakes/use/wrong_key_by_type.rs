use grains::{Ctx, Node};

#[grains::rpc_trait]
trait Clock {
    async fn now(&self) -> grains::Result<u64>;
}

#[grains::rpc_trait(key = (String, u64))]
trait Seat {
    async fn taken(&self) -> grains::Result<bool>;
}

fn read<G: grains::Grain>(node: &Node, ctx: Ctx<G>) {
    let _: ClockRef = node.get(7u64);
    let _: ClockRef = ctx.get(7);
    let _: SeatRef = node.get(("front", "left"));
}

fn main() {}
