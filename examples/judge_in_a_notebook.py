"""What the judge says of a function, in Python."""

from drifting_parity import judge
from plain_loss import plain_drifting_loss

found = judge(plain_drifting_loss, clause="A6-*")
print(found)  # .full() is every clause, .as_json() the data, .conforms whether all is as asked
