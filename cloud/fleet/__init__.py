"""What the fleet said of itself: taken in once, ordered, stored, compared with what is wanted."""
