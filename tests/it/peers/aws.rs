//! AWS's own command line runs `valetkey aws`. For a job moto plays AWS: it gives the keys of a role
//! for an identity token, and knows them again.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::same_cases::{Client, Start};
use super::spoken::Spoken;
use super::{Peer, heavy, here, installed, peer};
use crate::lab::job::keys;
use crate::lab::{Answer, CLIENT_ID, Job, Options, Reply, Request, Run, Sandbox, Server};
use crate::scene::{Home, program};

const ROLE: &str = "arn:aws:iam::123456789012:role/deploy";

struct Cloud {
    job: Job,
    moto: Spoken,
}

impl Cloud {
    /// A job whose role moto knows, and AWS's configuration as `setup aws` writes it.
    fn new(more: &str) -> Self {
        let job = Job::new(program());
        let moto = Spoken::start(installed().join("moto/bin/python"), &peer("moto/server.py"), &[]);
        job.sandbox.link("valetkey");
        job.sandbox.config(&format!(
            "[profile.aws]\nflow = \"workload\"\norigins = [{{ url = \"{}\", exchange = \"aws-sts\", \
             role = \"{ROLE}\" }}]\n{more}\n[profile.aws.workload]\nexchange = \"none\"\n",
            moto.said("origin"),
        ));
        set_up(&job.sandbox);
        Self { job, moto }
    }

    fn who(&self) -> Run {
        who(&self.job.sandbox, &self.moto.said("origin"))
    }
}

fn set_up(sandbox: &Sandbox) {
    sandbox.env("AWS_EC2_METADATA_DISABLED", "true").env("AWS_DEFAULT_REGION", "eu-central-1");
    sandbox.valetkey(&["setup", "aws"]).run().assert_status(0);
}

/// AWS is asked whose keys these are.
fn who(sandbox: &Sandbox, origin: &str) -> Run {
    let aws = installed().join("aws/bin/aws");
    let words = ["--profile", "valetkey", "sts", "get-caller-identity", "--output", "json"];
    sandbox.run(aws, &words).arg("--endpoint-url").arg(origin)
}

/// A person's session, and an AWS that gives keys for its ID token. They end so soon that each call
/// gets new ones.
struct Office {
    home: Home,
    service: Server,
}

const IDENTITY: &str = "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\
    <GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/deploy/valetkey</Arn>\
    <UserId>x</UserId><Account>123456789012</Account></GetCallerIdentityResult>\
    </GetCallerIdentityResponse>";

impl Office {
    fn start() -> Self {
        let home = Home::new(Options::default());
        let service = Server::start(|request: &Request| -> Reply {
            match (request.field("WebIdentityToken"), request.header("X-Amz-Security-Token")) {
                (Some(_), _) => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
                    let soon = valetkey::model::timestamp::rfc3339(now.as_secs() + 600);
                    let keys = keys("session").replace("2033-05-18T03:33:20Z", &soon);
                    Answer::typed(200, "text/xml", &keys).into()
                }
                (None, Some(_)) => Answer::typed(200, "text/xml", IDENTITY).into(),
                (None, None) => Answer::empty(403).into(),
            }
        });
        home.sandbox.link("valetkey");
        home.sandbox.config(&format!(
            "[profile.aws]\norigins = [{{ url = \"{}\", exchange = \"aws-sts\", role = \"{ROLE}\", \
             token = \"id\" }}]\nissuer = \"{}\"\nclient_id = \"{CLIENT_ID}\"\nscopes = [\"openid\"]\n",
            service.origin(),
            home.authority.issuer(),
        ));
        home.nobody();
        set_up(&home.sandbox);
        Self { home, service }
    }
}

pub(super) fn clients() -> Vec<Start> {
    let start: Start = Box::new(|| Box::new(Office::start()));
    here(&[Peer::Aws]).then_some(start).into_iter().collect()
}

impl Client for Office {
    fn name(&self) -> String {
        "aws".to_owned()
    }

    fn home(&self) -> &Home {
        &self.home
    }

    fn url(&self) -> String {
        self.service.origin()
    }

    fn ask(&self, _number: usize) -> Run {
        who(&self.home.sandbox, &self.service.origin())
    }

    fn tokens(&self) -> Vec<String> {
        let requests = self.service.journal().snapshot();
        let shown = |request: &Request| {
            let key = request.header("X-Amz-Security-Token").map(str::to_owned);
            key.or_else(|| request.field("WebIdentityToken"))
        };
        requests.iter().filter_map(|entry| shown(&entry.request)).collect()
    }

    fn signs_in(&self) -> bool {
        false
    }
}

/// Issue 3, item 7: AWS's command line is whoever the job may be, without a stored secret.
#[test]
fn the_command_line_of_aws_assumes_a_role_by_the_identity_of_the_job() {
    if !here(&[Peer::Aws]) {
        return;
    }
    let _alone = heavy();
    let cloud = Cloud::new("");
    let answer = cloud.who().run().assert_success();
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    let arn = answer["Arn"].as_str().expect("an ARN");
    assert_eq!(arn, "arn:aws:sts::123456789012:assumed-role/deploy/valetkey");
    assert_eq!(cloud.job.vouched(), 1);
    // What goes wrong is shown to the person who called it.
    cloud.job.next("/idtoken", Answer::json(403, &serde_json::json!({ "message": "not you" })));
    let refused = cloud.who().run();
    assert_ne!(refused.status, 0);
    refused.assert_stderr_has("gives no identity token, it answered 403: not you");
}

/// With `persist` the keys of one exchange serve as many calls as there are.
#[test]
fn many_calls_of_aws_share_the_keys_that_may_be_kept() {
    if !here(&[Peer::Aws]) {
        return;
    }
    let _alone = heavy();
    let cloud = Cloud::new("persist = \"all\"");
    let started: Vec<_> = (0..4).map(|_| cloud.who().start()).collect();
    for started in started {
        assert!(started.wait().assert_success().contains("assumed-role/deploy/valetkey"));
    }
    assert_eq!(cloud.job.vouched(), 1);
    let many: Vec<_> = (0..20)
        .map(|_| cloud.job.sandbox.valetkey(&["aws", &cloud.moto.said("origin")]).start())
        .collect();
    let answers: std::collections::BTreeSet<_> =
        many.into_iter().map(|started| started.wait().assert_success()).collect();
    assert_eq!((answers.len(), cloud.job.vouched()), (1, 1));
}
