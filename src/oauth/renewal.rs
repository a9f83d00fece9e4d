//! The request of a refresh (RFC 6749 section 6), whose answer must not be lost: where the server
//! has rotated the refresh token, only that answer says so.

use std::time::Duration;

use url::Url;

use super::answer::document;
use super::http::{Answer, Unanswered};
use super::metadata::Server;
use super::{Failure, Oauth};
use crate::error::{Error, Kind};
use crate::model::Malformed;
use crate::profile::Profile;

/// For a refresh with its second try: less than others wait for the one that renews.
const RENEWAL: Duration = Duration::from_secs(34);
/// For a second try at least.
const SECOND: Duration = Duration::from_secs(4);

impl Oauth<'_> {
    /// Posts a refresh. Where the answer was lost and not the request, the server may have rotated
    /// the token, and one that knows lost answers gives the same answer once more, if it is asked
    /// at once. `true`: this is the second answer.
    pub(super) fn ask_for_renewal(
        &self,
        profile: &Profile,
        client_id: &str,
        server: Option<&Server>,
        endpoint: &Url,
        form: &[(&str, &str)],
    ) -> Result<(Answer, bool), Failure> {
        let begun = self.clock.elapsed();
        let ask = || self.post_as(profile, client_id, server, endpoint, form);
        let whole = |outcome| match outcome {
            Ok(answer) if is_cut(&answer) => {
                let what = format!("the answer of {} ends in the middle", answer.host);
                let error = Error::new(Kind::Temporary, what);
                Err(Unanswered::Lost(error.hint("try again in a moment")))
            }
            outcome => outcome,
        };
        let lost = match whole(ask()) {
            Err(Unanswered::Lost(error)) => error,
            outcome => return Ok((outcome?, false)),
        };
        self.ui.log(|| format!("{lost}: the same refresh once more"));
        let now = self.clock.elapsed();
        let until = now + RENEWAL.saturating_sub(now.saturating_sub(begun)).max(SECOND);
        let second = whole(self.until(Some(until), ask));
        second.map(|answer| (answer, true)).map_err(|why| match why {
            Unanswered::Unsent(error) => Failure::Other(error),
            Unanswered::Unreached(error) | Unanswered::Lost(error) | Unanswered::Garbled(error) => {
                let what = format!("{}; the server may have rotated the refresh token", error.what);
                Failure::Transient(Error { what, ..error })
            }
        })
    }
}

/// The first answer was lost, and the second is no. What is kept stays: nobody can tell whether the
/// grant is dead, or the server takes this token only once.
pub(super) fn rotated(profile: &Profile, answer: &Answer) -> Failure {
    let what = format!(
        "the answer to a refresh was lost, and {} may have rotated the refresh token: it is refused \
         now",
        answer.host
    );
    let hint = format!("valetkey login {}", profile.home());
    Failure::Transient(Error::new(Kind::Temporary, what).hint(hint))
}

/// Half an answer, as a connection leaves it that was closed in between.
fn is_cut(answer: &Answer) -> bool {
    answer.status == 200 && document(answer).is_err_and(|why| why == Malformed::Cut)
}
