#!/bin/sh
# Has an order paid by the agent on this machine (`warifu reader serve`).
#
#   pay.sh ORDER_ID MINOR_UNITS CURRENCY CODE        such as: pay.sh A-17 1200 JPY 710000010728921840110704
#
# Exit code 0: paid, hand over the goods. 1: not paid, and it never will be by this try: scan a new code, or take another
# way to pay. 2: the request is wrong. 3: the agent does not answer; the same command again is safe.
set -eu
if [ $# -ne 4 ]; then
    echo "usage: pay.sh ORDER_ID MINOR_UNITS CURRENCY CODE" >&2
    exit 2
fi
agent=${WARIFU_AGENT:-http://127.0.0.1:7300}
answer=$(mktemp)
trap 'rm -f "$answer"' EXIT
body=$(printf '{"order_id":"%s","amount":{"minor":%s,"currency":"%s"},"code":"%s"}' "$1" "$2" "$3" "$4")

# A broken connection says nothing about the payment. Asking again under the same order id never pays twice: it waits for
# the attempt that is under way, or gets the payment that was made.
for try in 1 2 3; do
    # Longer than any deadline of the agent: 10 s, 90 s for a payer who is asked, and its grace.
    if status=$(curl -sS --max-time 120 -o "$answer" -w '%{http_code}' \
        -H 'content-type: application/json' -d "$body" "$agent/pay"); then
        cat "$answer"
        echo
        if [ "$status" = 200 ] && grep -q '"paid":true' "$answer"; then
            exit 0
        fi
        case $status in
        # `declined`, `reversed`, `reversing`, `not_taken`, `refused`: not paid. `reversing` needs nothing from you.
        200) exit 1 ;;
        # Nobody pays by this code: its issuer is unknown, closed, or has another currency.
        422) exit 1 ;;
        5*) ;;
        # `in_progress`, `order_paid` with another amount, or a malformed request: `message` and `next` say what to do.
        *) exit 2 ;;
        esac
    fi
    [ "$try" = 3 ] || sleep 1
done
echo "the agent at $agent does not answer: is 'warifu reader serve' running?" >&2
exit 3
