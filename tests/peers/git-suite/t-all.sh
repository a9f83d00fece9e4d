#!/bin/sh
# Every group of tests in git's lib-credential.sh for one external helper. The
# groups that t0303 runs come last here, so that they meet a store which already
# holds Bearer tokens. Started by ./run, in the suite's directory t/.

test_description='all tests of lib-credential.sh for an external helper'

. ./test-lib.sh
. "$TEST_DIRECTORY"/lib-credential.sh

HELPER=$GIT_TEST_CREDENTIAL_HELPER
eval "$GIT_TEST_CREDENTIAL_HELPER_SETUP"

helper_test_clean "$HELPER"
helper_test_authtype "$HELPER"
helper_test "$HELPER"
helper_test_password_expiry_utc "$HELPER"
helper_test_oauth_refresh_token "$HELPER"
helper_test_clean "$HELPER"

test_done
