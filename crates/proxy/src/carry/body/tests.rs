use std::collections::VecDeque;

use http_body_util::BodyExt;

use super::*;

/// A body of given frames.
struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }
}

fn chunks(sizes: &[usize]) -> Frames {
    Frames(
        sizes
            .iter()
            .map(|size| Frame::data(Bytes::from(vec![b'x'; *size])))
            .collect(),
    )
}

async fn read<B: Body<Data = Bytes, Error = hyper::Error> + Unpin>(
    sent: Sent<B>,
) -> (usize, Option<HeaderMap>) {
    let all = sent.collect().await.unwrap();
    let trailers = all.trailers().cloned();
    (all.to_bytes().len(), trailers)
}

#[tokio::test(flavor = "current_thread")]
async fn a_small_body_is_sent_again_whole_with_its_trailers() {
    let mut frames = chunks(&[100, 200]);
    let trailers = HeaderMap::from_iter([(
        http::HeaderName::from_static("t"),
        http::HeaderValue::from_static("1"),
    )]);
    frames.0.push_back(Frame::trailers(trailers.clone()));
    let original = Original::new(frames, true, None);
    let mut first = original.send();
    first.frame().await.unwrap().unwrap();
    assert!(original.can_replay());
    let second = original.send();
    assert!(matches!(first.frame().await, Some(Err(BodyError::GivenUp))));
    assert_eq!(read(second).await, (300, Some(trailers.clone())));
    assert!(original.can_replay());
    assert_eq!(read(original.send()).await, (300, Some(trailers)));
    assert_eq!(original.received(), 300, "bytes that came once count once");
}

#[tokio::test(flavor = "current_thread")]
async fn a_large_body_passes_once_and_is_not_kept() {
    let original = Original::new(chunks(&[REPLAY_LIMIT, 1, 500]), true, None);
    let mut sent = original.send();
    sent.frame().await.unwrap().unwrap();
    assert!(original.can_replay());
    sent.frame().await.unwrap().unwrap();
    assert!(!original.can_replay());
    assert_eq!(read(sent).await.0, 500);
    assert_eq!(original.received(), REPLAY_LIMIT as u64 + 501);
}

#[tokio::test(flavor = "current_thread")]
async fn a_body_that_nobody_would_repeat_is_not_kept() {
    let original = Original::new(chunks(&[10]), false, None);
    assert!(original.can_replay(), "nothing was handed out yet");
    assert_eq!(read(original.send()).await.0, 10);
    assert!(!original.can_replay());
}

#[tokio::test(flavor = "current_thread")]
async fn after_the_head_of_an_answer_nothing_more_is_kept() {
    let original = Original::new(chunks(&[10, 20]), true, None);
    let mut sent = original.send();
    sent.frame().await.unwrap().unwrap();
    original.settle();
    sent.frame().await.unwrap().unwrap();
    assert!(!original.can_replay());
    assert!(original.ended());
}
