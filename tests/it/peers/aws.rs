//! AWS's own command line runs `valetkey aws`, and moto plays AWS: it gives the keys of a role for
//! an identity token, and knows them again.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc;

use serde_json::Value;

use super::{Peer, heavy, here, installed, peer};
use crate::lab::watched::PATIENCE;
use crate::lab::{Answer, Job, Run};
use crate::scene::program;

const ROLE: &str = "arn:aws:iam::123456789012:role/deploy";

struct Moto {
    process: Child,
    _stdin: ChildStdin,
    origin: String,
}

impl Moto {
    fn start() -> Self {
        let mut process = Command::new(installed().join("moto/bin/python"))
            .arg(peer("moto/server.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python");
        let stdin = process.stdin.take().expect("stdin is a pipe");
        let stdout = process.stdout.take().expect("stdout is a pipe");
        let (sender, receiver) = mpsc::channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = BufReader::new(stdout).read_line(&mut line);
            let _ = sender.send(line);
        });
        let line = receiver.recv_timeout(PATIENCE).unwrap_or_default();
        let said: Value = serde_json::from_str(&line).expect("moto says where it listens");
        let origin = said["origin"].as_str().expect("an origin").to_owned();
        Self { process, _stdin: stdin, origin }
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

struct Cloud {
    job: Job,
    moto: Moto,
}

impl Cloud {
    /// A job whose role moto knows, and AWS's configuration as `setup aws` writes it.
    fn new(more: &str) -> Self {
        let (job, moto) = (Job::new(program()), Moto::start());
        job.sandbox.link("valetkey");
        job.sandbox.config(&format!(
            "[profile.aws]\nflow = \"workload\"\norigins = [{{ url = \"{}\", exchange = \"aws-sts\", \
             role = \"{ROLE}\" }}]\n{more}\n[profile.aws.workload]\nexchange = \"none\"\n",
            moto.origin,
        ));
        job.sandbox
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_DEFAULT_REGION", "eu-central-1");
        job.sandbox.valetkey(&["setup", "aws"]).run().assert_status(0);
        Self { job, moto }
    }

    fn who(&self) -> Run {
        let aws = installed().join("aws/bin/aws");
        let words = ["--profile", "valetkey", "sts", "get-caller-identity", "--output", "json"];
        self.job.sandbox.run(aws, &words).arg("--endpoint-url").arg(&self.moto.origin)
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
    let many: Vec<_> =
        (0..20).map(|_| cloud.job.sandbox.valetkey(&["aws", &cloud.moto.origin]).start()).collect();
    let answers: std::collections::BTreeSet<_> =
        many.into_iter().map(|started| started.wait().assert_success()).collect();
    assert_eq!((answers.len(), cloud.job.vouched()), (1, 1));
}
