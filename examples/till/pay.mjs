// Has an order paid by the agent on this machine (`warifu reader serve`). Node 18 or newer, no packages.
//
//   node pay.mjs ORDER_ID MINOR_UNITS CURRENCY CODE        such as: node pay.mjs A-17 1200 JPY 710000010728921840110704
//
// Exit code 0: paid, hand over the goods. 1: not paid, and it never will be by this try. 2: the request is wrong. 3: the
// agent does not answer; the same command again is safe.

const AGENT = process.env.WARIFU_AGENT ?? "http://127.0.0.1:7300";
const TRIES = 3;
// Longer than any deadline of the agent: 10 s, 90 s for a payer who is asked, and its grace.
const PATIENCE_MS = 120_000;

async function post(path, body) {
  const answer = await fetch(AGENT + path, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  return { status: answer.status, body: await answer.json() };
}

// A broken connection says nothing about the payment. Asking again under the same order id never pays twice: it waits for
// the attempt that is under way, or gets the payment that was made.
async function pay(orderId, minor, currency, code) {
  const body = { order_id: orderId, amount: { minor, currency }, code };
  for (let attempt = 0; attempt < TRIES; attempt += 1) {
    if (attempt > 0) await new Promise((wake) => setTimeout(wake, 1_000));
    try {
      const answer = await post("/pay", body);
      if (answer.status < 500) return answer;
    } catch {
      // No answer, or half of one.
    }
  }
  return undefined;
}

async function main([orderId, minor, currency, code, ...more]) {
  if (!code || more.length > 0 || !/^\d+$/.test(minor)) {
    console.error("usage: node pay.mjs ORDER_ID MINOR_UNITS CURRENCY CODE");
    return 2;
  }
  const answer = await pay(orderId, Number(minor), currency, code);
  if (!answer) {
    console.error(`the agent at ${AGENT} does not answer: is 'warifu reader serve' running?`);
    return 3;
  }
  const { status, body } = answer;
  console.log(JSON.stringify(body));
  // `approved`, or `held` if you asked for a later capture.
  if (status === 200 && body.paid) return 0;
  if (status === 200) {
    // `declined`, `reversed`, `reversing`, `not_taken`, `refused`: not paid. `reversing` needs nothing from you.
    console.error(body.cashier);
    return 1;
  }
  console.error(`${body.message} (${body.next})`);
  // 422: nobody pays by this code. Everything else is a mistake of the till, or the order is being paid elsewhere.
  return status === 422 ? 1 : 2;
}

process.exitCode = await main(process.argv.slice(2));
