//! A connection's work, and beside it what happens seldom: a look at its limits, an order to go.
//!
//! A select polls all its branches at each wake-up, and a connection wakes up twice a request: timers and tokens would
//! be asked each time whether they have anything to say. Here what stands aside has a waker of its own, and is polled
//! when that one was woken.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

/// The waker of what stands aside.
#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Bell {
    fn follow(&self, task: &Waker) {
        let mut known = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.will_wake(task) {
            known.clone_from(task);
        }
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}

/// Drives `work` to its end (`None`), unless `aside` ends before and says something.
pub(super) async fn unless<T>(mut work: Pin<&mut impl Future>, aside: impl Future<Output = T>) -> Option<T> {
    let mut aside = std::pin::pin!(aside);
    let bell = Arc::new(Bell {
        rung: AtomicBool::new(true),
        task: Mutex::new(Waker::noop().clone()),
    });
    let waker = Waker::from(Arc::clone(&bell));
    std::future::poll_fn(move |context| {
        if work.as_mut().poll(context).is_ready() {
            return Poll::Ready(None);
        }
        // The task before the bell: whoever rings between the two wakes the right one.
        bell.follow(context.waker());
        if !bell.rung.swap(false, Ordering::AcqRel) {
            return Poll::Pending;
        }
        aside.as_mut().poll(&mut Context::from_waker(&waker)).map(Some)
    })
    .await
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn what_stands_aside_is_heard_and_is_not_asked_at_each_wake_up() {
        let (asked, order) = (AtomicUsize::new(0), Arc::new(Notify::new()));
        let heard = order.notified();
        let mut heard = std::pin::pin!(heard);
        let aside = std::future::poll_fn(|context| {
            asked.fetch_add(1, Ordering::Relaxed);
            heard.as_mut().poll(context)
        });
        let told = Arc::clone(&order);
        let work = async move {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            told.notify_one();
            std::future::pending::<()>().await;
        };
        assert_eq!(unless(std::pin::pin!(work), aside).await, Some(()));
        assert_eq!(
            asked.load(Ordering::Relaxed),
            2,
            "once to begin with, and when it was told"
        );
    }

    #[tokio::test]
    async fn work_that_ends_is_not_held_up() {
        let work = async { tokio::task::yield_now().await };
        let never = std::future::pending::<()>();
        assert_eq!(unless(std::pin::pin!(work), never).await, None);
    }
}
