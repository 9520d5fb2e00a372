//! The serving side: one task for each connection.

use std::array;

use bytes::BytesMut;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{
    CALLEES,
    frame::{self, Head, Kind},
};

const BUFFER_BYTES: usize = 64 * 1024;

pub(super) async fn serve(listener: &TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(answer(stream));
    }
}

async fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut noted: [u64; CALLEES] = array::from_fn(|_| 0);
    let (mut read, mut answers) = (BytesMut::new(), BytesMut::new());
    loop {
        read.reserve(BUFFER_BYTES);
        if stream.read_buf(&mut read).await? == 0 {
            return Ok(());
        }
        while let Some((head, text)) = frame::read(&mut read) {
            answer_one(&mut noted, head, &text, &mut answers);
        }
        stream.write_all(&answers).await?;
        answers.clear();
    }
}

fn answer_one(noted: &mut [u64; CALLEES], head: Head, text: &[u8], answers: &mut BytesMut) {
    let noted = &mut noted[usize::from(head.callee)];
    match head.kind {
        Kind::Echo => frame::write(answers, head, text),
        Kind::Note => *noted += u64::from(!text.is_empty()),
        Kind::Noted => frame::write(answers, head, std::mem::take(noted).to_string().as_bytes()),
    }
}
