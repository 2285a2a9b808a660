"""What a page needs to be shown: links found in HTML, CSS, feeds and sitemaps."""
