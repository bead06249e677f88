//! The wait for a mapping without blocking, on any executor.

use super::events::EventQueues;
use super::{Error, External, Mapping, MappingId, Obstacle, State};
use plum_runtime::sync::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// Waits until a mapping is made, cannot be made for now, or is removed: the future of [`Mapping::mapped`].
#[derive(Debug)]
#[must_use = "a future does nothing unless it is polled"]
pub struct Mapped<'a> {
    mapping: &'a Mapping,
    /// That of its waker in the queues.
    number: Option<u64>,
    question: Option<Arc<Question>>,
}

/// What prevents a mapping, asked of the worker.
#[derive(Debug, Default)]
struct Question(Mutex<Answer>);

#[derive(Debug, Default)]
enum Answer {
    #[default]
    Open,
    /// `None`: the library cannot tell, or the mapping is not hindered any more.
    Known(Option<Obstacle>),
}

/// The worker's side of a question. Dropped without an answer, it has none.
struct Asked {
    question: Arc<Question>,
    queues: Arc<EventQueues>,
    mapping: MappingId,
    obstacle: Option<Obstacle>,
}

impl Asked {
    /// Answers, and wakes the tasks.
    fn answer(mut self, obstacle: Option<Obstacle>) {
        self.obstacle = obstacle;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        *self.question.0.lock() = Answer::Known(self.obstacle.take());
        self.queues.wake_tasks(self.mapping);
    }
}

impl<'a> Mapped<'a> {
    pub(super) fn new(mapping: &'a Mapping) -> Mapped<'a> {
        Mapped { mapping, number: None, question: None }
    }

    fn ask(&self) -> Arc<Question> {
        let question = Arc::new(Question::default());
        let (id, find) = (self.mapping.id(), self.mapping.obstacle_query());
        let queues = Arc::clone(&self.mapping.queues);
        let asked = Asked { question: Arc::clone(&question), queues, mapping: id, obstacle: None };
        self.mapping.engine.post(move |now, engine| {
            asked.answer(find(now, engine));
        });
        question
    }

    fn poll_obstacle(&mut self) -> Poll<Result<External, Error>> {
        if let Some(other) = self.mapping.other_port() {
            return Poll::Ready(Err(Error::NotMapped(other)));
        }
        let question = match self.question.take() {
            Some(question) => question,
            None => self.ask(),
        };
        let answer = std::mem::take(&mut *question.0.lock());
        let Answer::Known(obstacle) = answer else {
            self.question = Some(question);
            return Poll::Pending;
        };
        Poll::Ready(match self.mapping.state() {
            State::Mapped(external) => Ok(external),
            _ => Err(Error::NotMapped(obstacle.unwrap_or(Obstacle::Unknown))),
        })
    }
}

impl Future for Mapped<'_> {
    type Output = Result<External, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let queues = &self.mapping.queues;
        if queues.is_forked() {
            return Poll::Ready(Err(Error::Forked));
        }
        // Before the state is read, so that no change is missed.
        self.number = Some(queues.wake_task(self.mapping.id(), self.number, cx.waker().clone()));
        match self.mapping.state() {
            State::Mapped(external) => Poll::Ready(Ok(external)),
            State::Removed => Poll::Ready(Err(Error::Removed)),
            State::Failed => self.poll_obstacle(),
            State::Pending => {
                self.question = None;
                Poll::Pending
            }
        }
    }
}

impl Drop for Mapped<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number
            && !self.mapping.queues.is_forked()
        {
            self.mapping.queues.forget_task(self.mapping.id(), number);
        }
    }
}
