"""Templates of the portal (Jinja), and the addresses that they name."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from corewatch import RESEARCH_LABEL
from corewatch.roles import Role
from portal.access.principal import Principal
from portal.navigation import navigation
from portal.static_files import static_address


class Templates:
    """Renders escaped templates of `portal/templates`.

    Every template has `label` (research use only), `url(path)`, `static(name)`, `navigation(principal)`, `here` (path of the page
    in the navigation), `principal` (None: not signed in) and `Role`.

    Parameters
    ----------
    base_path
        Path of `portal.url`, which precedes every address of the portal.
    """

    def __init__(self, base_path: str = "") -> None:
        self._base_path = base_path
        self.environment = Environment(
            loader=PackageLoader("portal"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self.environment.globals.update(
            label=RESEARCH_LABEL, url=self.url, Role=Role, navigation=navigation, static=static_address, here=""
        )

    def url(self, path: str) -> str:
        """Address of a path of the portal, such as `/cases/c1`, as browsers ask for it."""
        return self._base_path + path

    def render(self, template: str, *, principal: Principal | None = None, **values: Any) -> str:
        """Fill a template."""
        return self.environment.get_template(template).render(principal=principal, **values)
