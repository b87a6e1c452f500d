#!/usr/bin/env python3
"""Has an order paid by the agent on this machine (`warifu reader serve`). Standard library only.

    pay.py ORDER_ID MINOR_UNITS CURRENCY CODE        such as: pay.py A-17 1200 JPY 710000010728921840110704

Exit code 0: paid, hand over the goods. 1: not paid, and it never will be by this try. 2: the request is wrong. 3: the agent
does not answer; the same command again is safe.
"""

import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.request

AGENT = os.environ.get("WARIFU_AGENT", "http://127.0.0.1:7300")
TRIES = 3
# Longer than any deadline of the agent: 10 s, 90 s for a payer who is asked, and its grace.
PATIENCE_S = 120


class NoAnswer(Exception):
    """The agent did not answer. The same request again is safe."""


def post(path, body):
    """Status and JSON of a call. A refusal is an answer as well."""
    request = urllib.request.Request(
        AGENT + path,
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refusal:
        return refusal.code, json.load(refusal)


def pay(order_id, minor, currency, code):
    """The last word about an order.

    A broken connection says nothing about the payment. Asking again under the same order id never pays twice: it waits for
    the attempt that is under way, or gets the payment that was made.
    """
    body = {"order_id": order_id, "amount": {"minor": minor, "currency": currency}, "code": code}
    for attempt in range(TRIES):
        if attempt:
            time.sleep(1)
        try:
            status, answer = post("/pay", body)
        except (OSError, ValueError, http.client.HTTPException):
            continue
        if status < 500:
            return status, answer
    raise NoAnswer(f"the agent at {AGENT} does not answer: is 'warifu reader serve' running?")


def main():
    if len(sys.argv) != 5 or not sys.argv[2].isdecimal():
        print(__doc__, file=sys.stderr)
        return 2
    order_id, minor, currency, code = sys.argv[1:]
    try:
        status, answer = pay(order_id, int(minor), currency, code)
    except NoAnswer as error:
        print(error, file=sys.stderr)
        return 3
    print(json.dumps(answer))
    if status == 200 and answer["paid"]:
        # `approved`, or `held` if you asked for a later capture.
        return 0
    if status == 200:
        # `declined`, `reversed`, `reversing`, `not_taken`, `refused`: not paid. `reversing` needs nothing from you.
        print(answer["cashier"], file=sys.stderr)
        return 1
    print(f"{answer['message']} ({answer['next']})", file=sys.stderr)
    # 422: nobody pays by this code. Everything else is a mistake of the till, or the order is being paid elsewhere.
    return 1 if status == 422 else 2


if __name__ == "__main__":
    sys.exit(main())
