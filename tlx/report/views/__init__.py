"""What tasks show of themselves in a report, a file each; `tlx.report.view` says how one looks."""
