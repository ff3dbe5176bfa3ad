"""The one mechanism of reading work: order, acquire, queue, claim, report, sign, issue, acknowledge."""
