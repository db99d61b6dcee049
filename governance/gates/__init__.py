"""What must hold before a model, an encoder or a precision answers."""
