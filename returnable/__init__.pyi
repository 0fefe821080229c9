from returnable.asynchronous import AsyncDesk as AsyncDesk
from returnable.asynchronous import open_async as open_async
from returnable.domain.errors import HistoryBroken as HistoryBroken
from returnable.domain.errors import Impossible as Impossible
from returnable.domain.errors import PolicyInvalid as PolicyInvalid
from returnable.domain.errors import ReturnableError as ReturnableError
from returnable.domain.errors import StoreBusy as StoreBusy
from returnable.domain.errors import StoreUnusable as StoreUnusable
from returnable.domain.outcome import Outcome as Outcome
from returnable.domain.policy import Policy as Policy
from returnable.domain.policy import PolicyBook as PolicyBook
from returnable.domain.policy import read_policies as read_policies
from returnable.facade import Desk as Desk
from returnable.facade import open as open

__version__: str
