"""Documentation: MyST pages, every code cell executed while the pages are built."""

from ranef.version import __version__

project = "ranef"
release = version = __version__
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build", "figures"]

nb_execution_mode = "cache"
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_heading_anchors = 3
# Pages are read on the repository's site too, where links to files outside docs/ work.
suppress_warnings = ["myst.xref_missing", "mystnb.mime_priority"]

napoleon_use_ivar = True
autodoc_typehints = "none"
autodoc_member_order = "bysource"

html_theme = "pydata_sphinx_theme"
html_title = "ranef"
html_theme_options = {"navigation_with_keys": False, "show_toc_level": 2}
html_show_sourcelink = False


def setup(app):
    """Show the architecture's drawing as text: drawing it would need a script from elsewhere."""
    from pygments.lexers.special import TextLexer

    app.add_lexer("mermaid", TextLexer)
